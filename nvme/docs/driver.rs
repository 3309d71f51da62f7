// A driver for the controller of `server.rs`, what that counts, and what keeps it.
{
    use vfio_irq_nvme::driver::{Driver, Options, Socket};

    let (path, counts, kept) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/server.rs"));
    let driver = Driver::open(Socket::connect(&path)?, Options::default())?;
    (driver, counts, kept)
}
