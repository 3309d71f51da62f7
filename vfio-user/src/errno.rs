//! Error numbers that the engine has no use for, as Linux numbers them.
//!
//! ```
//! use vfio_irq_user::{Errno, errno};
//!
//! /// A register that can only be read.
//! fn write(offset: u64) -> Result<(), Errno> {
//!     if offset == 0 { Err(errno::EACCES) } else { Ok(()) }
//! }
//! assert_eq!(write(0).map_err(Errno::raw), Err(13));
//! ```

use vfio_irq_engine::Errno;

/// Nothing of that kind is there.
pub const ENOENT: Errno = Errno::from_raw(2);
/// Reading or writing failed.
pub const EIO: Errno = Errno::from_raw(5);
/// Waiting would never end.
pub const EDEADLK: Errno = Errno::from_raw(35);
/// Not allowed.
pub const EACCES: Errno = Errno::from_raw(13);
/// Is there already.
pub const EEXIST: Errno = Errno::from_raw(17);
/// This process can have no more descriptors.
pub const EMFILE: Errno = Errno::from_raw(24);
/// The message is too long.
pub const EMSGSIZE: Errno = Errno::from_raw(90);
/// There is no such command, or not here.
pub const EOPNOTSUPP: Errno = Errno::from_raw(95);
/// The client took too long.
pub const ETIMEDOUT: Errno = Errno::from_raw(110);
/// It was given up: the device is being reset.
pub const ECANCELED: Errno = Errno::from_raw(125);
/// There is no client.
pub const ENOTCONN: Errno = Errno::from_raw(107);

/// Converts the errno of a system call.
pub(crate) fn of(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
