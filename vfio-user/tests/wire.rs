//! The messages without I/O: headers, decoding, replies, and the capabilities of VERSION.

#[test]
fn a_frame_whose_descriptors_were_truncated_is_robbed() -> Result<(), vfio_irq_user::Errno> {
    use vfio_irq_user::wire::{Command, Decoder, Header};
    let mut decoder = Decoder::new(4096);
    let message = Header::command(1, Command::DeviceSetIrqs, 0).to_bytes();
    decoder.room()[..16].copy_from_slice(&message);
    decoder.filled(16, [], true)?; // The kernel says MSG_CTRUNC.
    let frame = decoder.next(&mut Vec::new())?.expect("all of it came");
    assert!(frame.robbed, "MSG_CTRUNC");
    Ok(())
}

#[test]
fn a_decoder_knows_an_incomplete_message() -> Result<(), vfio_irq_user::Errno> {
    use vfio_irq_user::wire::Decoder;

    let mut decoder = Decoder::new(4096);
    decoder.filled(3, [], false)?;
    // If the peer closes the socket now, a message is incomplete.
    assert!(decoder.next(&mut Vec::new())?.is_none());
    assert!(decoder.is_amid());
    Ok(())
}

#[test]
fn a_message_that_is_too_long_has_a_header_to_refuse() -> Result<(), vfio_irq_user::Errno> {
    use vfio_irq_user::wire::{Command, Decoder, Header};

    let mut decoder = Decoder::new(32);
    let header = Header::command(9, Command::RegionWrite, 4096);
    decoder.room()[..16].copy_from_slice(&header.to_bytes());
    decoder.filled(16, [], false)?;
    assert!(decoder.next(&mut Vec::new()).is_err());
    // The server can refuse the message before it closes the connection.
    assert_eq!(decoder.offender().map(|header| header.id), Some(9));
    Ok(())
}

#[test]
fn descriptors_of_a_message_are_limited_by_scm_rights() {
    use vfio_irq_user::wire::{Capabilities, MAX_FDS};

    // A peer may offer more than SCM_RIGHTS can carry.
    let offer = Capabilities { max_msg_fds: Some(1_000_000), ..Capabilities::default() };
    assert_eq!(offer.limits(1).peer_fds, MAX_FDS);
}

#[test]
fn the_default_transfer_is_one_mebibyte() {
    use vfio_irq_user::wire::{Capabilities, DEFAULT_TRANSFER};

    assert_eq!(DEFAULT_TRANSFER, 1_048_576);
    assert_eq!(Capabilities::default().limits(1).peer_transfer, DEFAULT_TRANSFER);
}

#[test]
fn commands_have_numbers() {
    use vfio_irq_user::wire::Command;

    let known: Vec<u16> = (0..100).filter(|raw| Command::from_raw(*raw).is_some()).collect();
    assert_eq!(known.len(), 17);
}

#[test]
fn a_refusal_has_an_errno_and_no_payload() {
    use vfio_irq_user::{
        Errno,
        wire::{Command, Header},
    };

    let refusal = Header::command(1, Command::DmaMap, 32).refusal(Errno::EINVAL);
    assert_eq!((refusal.error, refusal.size), (22, 16));
}

#[test]
fn a_reply_is_no_command() {
    use vfio_irq_user::wire::{Command, Header};

    // Both directions share one socket.
    let question = Header::command(3, Command::DmaRead, 16);
    assert!(!question.is_reply());
    assert!(question.reply(16).is_reply());
}

#[test]
fn other_types_are_neither_command_nor_reply() {
    use vfio_irq_user::wire::Header;

    // A type other than command and reply is invalid.
    let neither = Header { id: 1, command: 1, size: 16, flags: 2, error: 0 };
    assert!(!neither.is_command() && !neither.is_reply());
}

#[test]
fn no_reply_is_a_flag() {
    use vfio_irq_user::wire::{Command, Header, flags};

    let mut header = Header::command(1, Command::RegionWrite, 20);
    assert!(header.wants_reply());
    header.flags |= flags::NO_REPLY;
    assert!(!header.wants_reply());
}

#[test]
fn a_header_is_decoded_unchecked() {
    use vfio_irq_user::wire::Header;

    // Any 16 bytes decode: the fields are unchecked.
    let header = Header::from_bytes(&[0xff; 16]);
    assert_eq!((header.command, header.size), (u16::MAX, u32::MAX));
}

#[test]
fn a_cleared_reply_is_empty() {
    use vfio_irq_user::wire::Reply;

    let mut reply = Reply::default();
    reply.begin();
    reply.clear(); // The client wants no reply.
    assert!(reply.bytes().is_empty());
}

#[test]
fn a_command_can_ask_for_no_reply() -> Result<(), vfio_irq_user::Errno> {
    use vfio_irq_user::wire::{Command, Packet, Reply, flags};

    let mut message = Reply::default();
    message.begin().extend([0; 20]);
    message.ask_with(1, Command::RegionWrite, flags::NO_REPLY);
    let packet = Packet::split(message.bytes())?.expect("all there");
    assert!(!packet.header().wants_reply());
    Ok(())
}

#[test]
fn a_refusal_drops_the_payload() -> Result<(), vfio_irq_user::Errno> {
    use vfio_irq_user::{
        Errno,
        wire::{Command, Header, Packet, Reply},
    };

    let mut reply = Reply::default();
    reply.begin().extend([0; 100]);
    reply.refuse(&Header::command(1, Command::RegionRead, 16), Errno::EINVAL);
    let packet = Packet::split(reply.bytes())?.expect("all there");
    assert_eq!((packet.len(), packet.header().errno()), (16, Some(Errno::EINVAL)));
    Ok(())
}

#[test]
fn io_fds_that_do_not_fit_are_left_out() {
    use vfio_irq_user::wire::IoSpan;

    let spans = [IoSpan { offset: 0, size: 4, fd: 0, datamatch: Some(1), pio: false }];
    let mut payload = Vec::new();
    // A first request often has room for the fixed part only.
    assert!(!IoSpan::put_all(0, &spans, 16, &mut payload));
    assert_eq!(payload[..4], 56_u32.to_ne_bytes());
}

#[test]
fn region_write_multi_is_a_list() -> Result<(), vfio_irq_user::Errno> {
    use vfio_irq_user::wire::{Command, Packet, Reply, Request};
    let mut message = Reply::default();
    let payload = message.begin();
    payload.extend(2_u64.to_ne_bytes());
    for (offset, value) in [(0x1000_u64, 5_u64), (0x1008, 6)] {
        payload.extend(offset.to_ne_bytes());
        [0_u32, 4].iter().for_each(|word| payload.extend(word.to_ne_bytes()));
        payload.extend(value.to_ne_bytes());
    }
    message.ask(1, Command::RegionWriteMulti);
    let packet = Packet::split(message.bytes())?.expect("all there");
    let Request::RegionWriteMulti(writes) = Request::check(packet, 0)? else { panic!("no") };
    let offsets: Vec<u64> = writes.iter().map(|write| write.access.offset).collect();
    assert_eq!(offsets, [0x1000, 0x1008]);
    Ok(())
}

#[test]
fn the_smallest_page_is_the_lowest_bit_of_pgsizes() {
    use vfio_irq_user::wire::Capabilities;

    let theirs = Capabilities { pgsizes: Some(1 << 21 | 1 << 16), ..Capabilities::default() };
    assert_eq!(theirs.limits(1).smallest_page(), 65_536);
    assert_eq!(Capabilities::default().limits(1).smallest_page(), 4096);
}

#[test]
fn the_server_offers_its_limits() {
    use vfio_irq_user::wire::Capabilities;

    let ours = Capabilities::ours(64 << 10, 256);
    assert_eq!((ours.max_data_xfer_size, ours.max_dma_maps), (Some(65536), Some(256)));
    assert_eq!(ours.pgsizes, Some(4096), "mappings are multiples of a page");
}

#[test]
fn twin_socket_is_off_by_default() {
    use vfio_irq_user::wire::Capabilities;

    assert!(!Capabilities::default().wants_twin());
}
