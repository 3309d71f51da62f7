//! Round trips: the same client beside five servers, which run in a process of their own.

mod contest;
mod message;
mod ping;
pub mod servers;

pub use contest::{Block, measure};
