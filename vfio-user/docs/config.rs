// What a client sees of a function's configuration space: its first 256 bytes.
|function: vfio_irq_user::pci::Function| -> Result<[u8; 256], Box<dyn std::error::Error>> {
    use vfio_irq_user::{Client, ClientOptions, Options, Server, pci::region};

    let (_, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("device.sock");
    let server = Server::start(Options::default())?;
    server.add(&path, function, make)?;
    let client = Client::connect(&path, ClientOptions::default())?;
    let mut config = [0; 256];
    client.region_read(region::CONFIG, 0, &mut config)?;
    Ok(config)
}
