//! The messages without I/O: what no conversation shows.

use vfio_irq_user::wire::{Capabilities, Command, Decoder, Header, MAX_FDS, SubRegion};

#[test]
fn a_message_that_is_too_long_has_a_header_to_refuse() -> Result<(), vfio_irq_user::Errno> {
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
fn commands_have_numbers() {
    let known: Vec<_> = (0..100).filter_map(Command::from_raw).map(Command::raw).collect();
    assert_eq!(known, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18]);
}

#[test]
fn limits_of_a_peer_that_proposes_odd_ones() {
    // A peer may offer more descriptors than SCM_RIGHTS can carry.
    let pgsizes = Some(1 << 21 | 1 << 16);
    let theirs =
        Capabilities { max_msg_fds: Some(1_000_000), pgsizes, ..Capabilities::default() }.limits(1);
    assert_eq!((theirs.peer_fds, theirs.smallest_page()), (MAX_FDS, 65_536));
    assert_eq!(Capabilities::default().limits(1).smallest_page(), 4096);
}

#[test]
fn io_fds_that_do_not_fit_are_left_out() {
    let mut payload = Vec::new();
    // A first request often has room for the fixed part only.
    assert!(!SubRegion::put_all(0, &[SubRegion::default()], 16, &mut payload));
    assert_eq!(payload[..4], 56_u32.to_ne_bytes());
}
