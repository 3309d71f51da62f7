//! The controller with a guest in front of it: over a socket, as every guest comes to it.
#![allow(clippy::cast_possible_truncation)]

mod admin;
mod hostile;
mod io;
mod machine;
mod many;
mod shadow_doorbells;
mod slow;
mod succession;
mod unanswered;
