// A client of the device in `device.rs`, the device's bus, and the server between them.
{
    use vfio_irq_user::{Client, ClientOptions, Options, Server};

    let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("device.sock");
    let server = Server::start(Options::default())?;
    let mut kept = None;
    server.add(&path, function, |bus| {
        kept = Some(bus.clone());
        make(bus)
    })?;
    let client = Client::connect(&path, ClientOptions::default())?;
    (client, kept.ok_or("no bus")?, server)
}
