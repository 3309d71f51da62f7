// Begins a session of the device in `device.rs` and agrees on a version, with these capabilities.
{
    use vfio_irq_user::wire::{Capabilities, Command, Packet, Reply, VERSION};
    use vfio_irq_user::{Endpoint, Grants, Session};

    fn agreed(endpoint: &mut Endpoint, offer: Capabilities) -> Session<'_> {
        let mut session = Session::new(endpoint, Grants { transfer: 4096, dma_maps: 16 });
        let (mut hello, mut reply) = (Reply::default(), Reply::default());
        offer.put(VERSION, hello.begin());
        hello.ask(1, Command::Version);
        let packet = Packet::split(hello.bytes()).expect("a message").expect("all of it");
        session.handle(packet, &mut Vec::new(), false, &mut reply);
        session
    }
    let (function, make) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device.rs"));
    (Endpoint::new(function, make), agreed)
}
