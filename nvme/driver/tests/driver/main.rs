//! The driver in user space against the emulated controller over its socket, and against a puppet that
//! answers whatever a test wants.

mod emulated;
mod hostile;
mod life;
mod load;
mod puppet;
mod requests;
