// A controller with four I/O queues and a disk of 64 MiB behind a socket: where, what it counts, and what
// keeps it. The examples of this crate's documentation talk to it.
{
    use vfio_irq_nvme::{Controller, Disk, Settings};
    use vfio_irq_user::{Options, Server};

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("nvme.sock");
    let settings = Settings { queues: 4, serial: "example".into() };
    let disk = Disk::memory(64 << 20)?;
    let server = Server::start(Options::default())?;
    let mut counts = None;
    server.add(&path, settings.function()?, |bus| {
        let controller = Controller::new(bus, disk, &settings);
        counts = Some(controller.counts());
        controller
    })?;
    (path, counts.ok_or("no controller")?, (server, folder))
}
