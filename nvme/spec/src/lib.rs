//! What an NVMe controller and its driver share: NVM Express 1.4, as far as this project uses it.
//!
//! ```
//! use vfio_irq_nvme_spec::{Command, Status, last_word, opcode};
//!
//! let mut bytes = [0; 64];
//! (bytes[0], bytes[2]) = (opcode::io::READ, 7);
//! let command = Command::new(bytes);
//! assert_eq!((command.opcode(), command.id()), (opcode::io::READ, 7));
//! // The driver decodes the status that the controller encodes.
//! let word = last_word(command.id(), Status::LBA_RANGE, true);
//! let status = Status::of_failure((word >> 16) as u16).expect("an error status");
//! assert!(status.is_final());
//! ```

mod command;
pub mod opcode;
pub mod register;
mod status;

pub use command::{COMMAND_SIZE, COMPLETION_SIZE, Command, first_words, high, last_word, low};
pub use status::Status;
