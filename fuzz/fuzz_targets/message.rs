//! Any bytes as a stream of messages, in pieces of any length: every message comes out once, and its
//! check says yes or no.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vfio_irq_user::wire::{Decoder, Header, Packet, Request};

fuzz_target!(|input: (Vec<u8>, Vec<u8>, u8)| {
    let (bytes, pieces, fds) = input;
    let whole = split(&bytes, &[]);
    assert_eq!(whole, split(&bytes, &pieces), "the pieces do not matter");
    let mut rest = bytes.as_slice();
    for message in &whole {
        let packet = Packet::split(message).unwrap().unwrap();
        assert!(rest.starts_with(message));
        rest = &rest[message.len()..];
        check(packet, usize::from(fds % 4));
    }
});

/// The whole messages of a stream that is read in pieces, until there is none or what is none.
fn split(bytes: &[u8], pieces: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(1 << 20);
    let (mut messages, mut fds) = (Vec::new(), Vec::new());
    let mut pieces = pieces.iter().map(|len| usize::from(*len).max(1));
    let mut rest = bytes;
    loop {
        loop {
            match decoder.next(&mut fds) {
                Err(_) => {
                    assert!(decoder.offender().is_some());
                    return messages;
                }
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let head = frame.packet.header().to_bytes();
                    messages.push([&head[..], frame.packet.payload()].concat());
                }
            }
        }
        if rest.is_empty() {
            return messages;
        }
        let room = decoder.room();
        let len = pieces.next().unwrap_or(usize::MAX).min(room.len()).min(rest.len());
        assert!(len > 0, "there is room as long as a message is not there");
        room[..len].copy_from_slice(&rest[..len]);
        rest = &rest[len..];
        decoder.filled(len, [], false).unwrap();
    }
}

fn check(packet: Packet<'_>, fds: usize) {
    assert_eq!(packet.len(), packet.payload().len() + Header::LEN);
    match Request::check(packet, fds) {
        Ok(Request::Version(proposal)) => drop(proposal.capabilities()),
        Ok(Request::RegionWriteMulti(writes)) => {
            assert_eq!(writes.iter().count(), writes.len());
            assert!(writes.iter().all(|write| write.data.len() <= 8));
        }
        Ok(Request::RegionWrite(access, data)) => assert_eq!(access.count as usize, data.len()),
        Ok(Request::DmaMap(map)) => assert!(map.address.checked_add(map.size - 1).is_some()),
        Ok(_) => {}
        Err(errno) => assert!(errno.raw() > 0),
    }
}
