//! `Vectors`, `Intx` and `Event` on the simulated device.

mod all_or_nothing;
mod api;
mod basics;
mod by_number;
mod hosts;
mod noresize;
mod random;
mod vfio_user;
