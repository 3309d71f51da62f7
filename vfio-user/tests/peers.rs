//! This client with servers that break the protocol: it checks what they send.
#![allow(clippy::cast_possible_truncation)] // All small.

mod common;

use common::{event, longs, signals, words};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;
use vfio_irq_user::wire::{Command, Header};
use vfio_irq_user::{Client, ClientError, ClientOptions, ConnectionError, IoFd};

/// What a server says to a command: a payload and descriptors.
type Said = (Vec<u8>, Vec<OwnedFd>);

/// The server's end of a connection.
struct Peer(common::Raw);

impl Peer {
    /// The next command; `None` once the client has gone.
    fn next(&mut self) -> Option<(Header, Vec<u8>)> {
        self.0.0.set_read_timeout(None).unwrap();
        let mut head = [0; Header::LEN];
        self.0.0.read_exact(&mut head).ok()?;
        let header = Header::from_bytes(&head);
        let mut payload = vec![0; header.size as usize - Header::LEN];
        self.0.0.read_exact(&mut payload).ok()?;
        Some((header, payload))
    }

    fn reply(&mut self, to: &Header, payload: &[u8], fds: &[BorrowedFd<'_>]) {
        self.0.send(to.id, to.command, 1, payload, fds);
    }

    fn agree(&mut self, capabilities: &str) {
        let (hello, _) = self.next().unwrap();
        assert_eq!(hello.command, Command::Version.raw());
        self.reply(&hello, &[&[0, 0, 1, 0], capabilities.as_bytes(), &[0]].concat(), &[]);
    }
}

/// A server that does this.
fn served(serve: impl FnOnce(Peer) + Send + 'static) -> (OwnedFd, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours.into(), std::thread::spawn(move || serve(Peer(common::Raw(theirs)))))
}

/// A client that has agreed with a server on these capabilities.
fn agreed(
    capabilities: &'static str,
    serve: impl FnOnce(Peer) + Send + 'static,
) -> (Client, JoinHandle<()>) {
    let (socket, server) = served(move |mut peer| {
        peer.agree(capabilities);
        serve(peer);
    });
    (Client::over(socket, ClientOptions::default()).unwrap(), server)
}

/// A server that answers any commands so, with a region of 4 KiB.
fn saying(
    mut say: impl FnMut(Command, &[u8]) -> Said + Send + 'static,
) -> (Client, JoinHandle<()>) {
    agreed("", move |mut peer| {
        while let Some((header, payload)) = peer.next() {
            let command = Command::from_raw(header.command).unwrap();
            let (said, fds) = match command {
                Command::DeviceGetRegionInfo => {
                    ([words(&[32, 3, 0, 0]), longs(&[0x1000, 0])].concat(), Vec::new())
                }
                _ => say(command, &payload),
            };
            peer.reply(&header, &said, &common::borrowed(&fds));
        }
    })
}

/// A sub-region: where, how long, the descriptor's place, kind, flags, what is to be written.
fn part(offset: u64, size: u64, [fd, kind, flags]: [u32; 3], datamatch: u64) -> Vec<u8> {
    [longs(&[offset, size]), words(&[fd, kind, flags, 0]), longs(&[datamatch])].concat()
}

/// The reply to GET_REGION_IO_FDS with sub-regions of this length.
fn parts(all: &[Vec<u8>], stride: usize) -> Vec<u8> {
    let needed = 16 + all.len() * stride;
    let mut reply = words(&[needed as u32, 0, 0, all.len() as u32]);
    for part in all {
        let mut padded = part.clone();
        padded.resize(stride, 0xab);
        reply.extend(padded);
    }
    reply
}

#[test]
fn sub_regions_are_told_apart_by_their_kind_their_flags_and_their_size() {
    for stride in [40, 48, 64] {
        let bells = [event(), event()];
        let copies: Vec<_> = bells.iter().map(|bell| bell.try_clone().unwrap()).collect();
        let all = [
            part(0x10, 4, [1, 0, 1], 7),
            part(0x20, 0, [0, 0, 2], 7),
            // ioregionfd, libvfio-user's shadow, an ioeventfd to be taken away, one of no known kind.
            part(0x30, 8, [0, 1, 0], 99),
            part(0x40, 8, [0, 2, 0], 0),
            part(0x50, 8, [0, 0, 4], 0),
            part(0x60, 8, [77, 5, 9], 0),
        ];
        let mut copies = Some(copies);
        let (client, server) =
            saying(move |_, _| (parts(&all, stride), copies.take().unwrap_or_default()));
        let found = client.region_io_fds(0).unwrap();
        let places: Vec<_> = found.iter().map(|part| (part.offset, part.size)).collect();
        assert_eq!(places, [(16, 4), (32, 0), (48, 8), (64, 8), (80, 8), (96, 8)]);
        let mut kinds = found.into_iter().map(|part| part.fd);
        let Some(IoFd::Ioeventfd { fd, datamatch: Some(7), pio: false }) = kinds.next() else {
            panic!("the first")
        };
        rustix::io::write(&fd, &1_u64.to_ne_bytes()).unwrap();
        assert_eq!((signals(&bells[0]), signals(&bells[1])), (0, 1));
        let Some(IoFd::Ioeventfd { fd, datamatch: None, pio: true }) = kinds.next() else {
            panic!("the second")
        };
        rustix::io::write(&fd, &1_u64.to_ne_bytes()).unwrap();
        assert_eq!((signals(&bells[0]), signals(&bells[1])), (1, 0));
        let rest: Vec<_> = kinds
            .map(|fd| match fd {
                IoFd::Unknown { kind, flags } => (kind, flags),
                IoFd::Ioeventfd { .. } => panic!("used"),
            })
            .collect();
        assert_eq!(rest, [(1, 0), (2, 0), (0, 4), (5, 9)]);
        drop(client);
        server.join().unwrap();
    }
}

#[test]
fn sub_regions_that_cannot_be_are_refused() {
    let fine = || part(0, 4, [0, 0, 0], 0);
    for (what, reply) in [
        ("outside of the region", parts(&[part(0x1000, 0, [0, 0, 0], 0)], 40)),
        ("over its end", parts(&[part(0xffd, 4, [0, 0, 0], 0)], 40)),
        ("beyond 64 bits", parts(&[part(u64::MAX, 2, [0, 0, 0], 0)], 40)),
        ("an unknown kind outside", parts(&[part(0x1000, 8, [0, 1, 0], 0)], 40)),
        ("without its descriptor", parts(&[part(0, 4, [1, 0, 0], 0)], 40)),
        ("too short", parts(&[fine()], 39)),
        ("fewer than said", words(&[16 + 80, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("none of those that are said", words(&[16 + 80, 0, 0, 2])),
        ("of no even length", [words(&[16 + 81, 0, 0, 2]), vec![0; 81]].concat()),
        ("needs less than a header", [words(&[15, 0, 0, 1]), vec![0; 40]].concat()),
        ("needs ever more", words(&[1 << 30, 0, 0, 1])),
    ] {
        let (client, server) = saying(move |_, _| (reply.clone(), vec![event()]));
        let refused = client.region_io_fds(0).unwrap_err();
        assert!(
            matches!(refused, ClientError::Senseless(Command::DeviceGetRegionIoFds)),
            "{what}: {refused}"
        );
        drop(client);
        server.join().unwrap();
    }
}

#[test]
fn more_sub_regions_than_there_was_room_for_are_asked_for_again() {
    let all: Vec<_> = (0..200).map(|i| part(4 * i, 4, [0, 0, 0], 0)).collect();
    let (client, server) = saying(move |_, asked| {
        let room = u32::from_ne_bytes(asked[..4].try_into().unwrap());
        let whole = parts(&all, 40);
        let fits = whole.len() <= room as usize;
        (whole[..if fits { whole.len() } else { 16 }].to_vec(), vec![event()])
    });
    assert_eq!(client.region_io_fds(0).unwrap().len(), 200);
    drop(client);
    server.join().unwrap();
}

#[test]
fn a_server_is_asked_for_what_it_has_said_that_it_can_do() {
    let caps = r#"{"capabilities":{"max_msg_fds":0,"max_dma_maps":1,"pgsizes":65536}}"#;
    let (client, server) = agreed(caps, |mut peer| {
        let mut commands = Vec::new();
        while let Some((header, _)) = peer.next() {
            commands.push(header.command);
            peer.reply(&header, &[], &[]);
        }
        let [map, unmap, write] =
            [Command::DmaMap, Command::DmaUnmap, Command::RegionWrite].map(Command::raw);
        assert_eq!(commands, [map, unmap, map, write, write]);
    });
    let limits = client.limits();
    assert_eq!((limits.peer_dma_maps, limits.peer_page_sizes), (1, 65_536));
    assert!(!limits.peer_write_multiple);
    for (address, size) in [(0x1000, 0x1_0000), (0x1_0000, 0x1000)] {
        let refused = client.dma_map(address, size, None).unwrap_err();
        assert!(matches!(refused, ClientError::PageSize { page: 65_536 }), "{refused}");
    }
    let file = common::memfd(0x1_0000);
    let refused = client.dma_map(0, 0x1_0000, Some((file.as_fd(), 0))).unwrap_err();
    assert!(matches!(refused, ClientError::TooManyFds { most: 0, wanted: 1 }), "{refused}");
    client.dma_map(0, 0x1_0000, None).unwrap();
    let refused = client.dma_map(0x1_0000, 0x1_0000, None).unwrap_err();
    assert!(matches!(refused, ClientError::TooManyMappings { most: 1 }), "{refused}");
    client.dma_unmap(0, 0x1_0000).unwrap();
    client.dma_map(0x1_0000, 0x1_0000, None).unwrap();
    // Many writes are one message each where the server knows no other.
    assert_eq!(client.region_write_multi(&[(0, 0, &[1]), (0, 8, &[2; 8])]).unwrap(), 2);
    assert!(client.region_write_multi(&[(0, 0, &[0; 9])]).is_err());
    drop(client);
    server.join().unwrap();
}

#[test]
fn capabilities_that_cannot_be_are_refused() {
    for capabilities in [
        r#"{"capabilities":{"pgsizes":0}}"#,
        r#"{"capabilities":{"pgsizes":512}}"#,
        r#"{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}"#,
        r#"{"capabilities":{"max_dma_maps":"many"}}"#,
    ] {
        let (socket, server) = served(move |mut peer| peer.agree(capabilities));
        let refused = Client::over(socket, ClientOptions::default()).err().unwrap();
        let senseless = matches!(refused, ClientError::Senseless(Command::Version));
        assert!(senseless, "{capabilities}: {refused}");
        server.join().unwrap();
    }
}

/// Makes a call that fails; the test fails as well if the call never ends.
fn fails(client: Client) -> (Client, ConnectionError) {
    let (done, outcome) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let outcome = client.device_info();
        _ = done.send((client, outcome));
    });
    match outcome.recv_timeout(Duration::from_secs(60)).expect("the call ends") {
        (client, Err(ClientError::Broken(why))) => (client, why),
        (_, outcome) => panic!("{outcome:?}"),
    }
}

#[test]
fn a_reply_to_another_command_ends_the_connection() {
    for (id, command) in [(1, 0), (0, 1), (0x100, 0)] {
        let (client, server) = agreed("", move |mut peer| {
            let (asked, _) = peer.next().unwrap();
            let other = Header { id: asked.id ^ id, command: asked.command ^ command, ..asked };
            peer.reply(&other, &words(&[16, 3, 9, 5]), &[]);
            // The right one is there for a call that still listens.
            peer.reply(&asked, &words(&[16, 3, 9, 5]), &[]);
            assert!(peer.next().is_none(), "the client asks no more");
        });
        let (client, why) = fails(client);
        assert_eq!(why, ConnectionError::ProtocolViolation);
        let again = client.device_info().unwrap_err();
        assert!(
            matches!(again, ClientError::Broken(ConnectionError::ProtocolViolation)),
            "{again}"
        );
        assert!(client.region_post(0, 0, &[0]).is_err() && client.serve(Duration::ZERO).is_err());
        server.join().unwrap();
    }
}

/// A server that does not answer, but does this instead, until the client is gone.
fn busy(
    mut act: impl FnMut(&mut UnixStream) -> std::io::Result<()> + Send + 'static,
) -> ConnectionError {
    let (socket, server) = served(move |mut peer| {
        peer.agree("");
        peer.next().unwrap();
        while act(&mut peer.0.0).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let options = ClientOptions { patience: Duration::from_millis(300), ..Default::default() };
    let client = Client::over(socket, options).unwrap();
    let (client, why) = fails(client);
    // What comes late is no answer to the next call.
    assert!(matches!(client.device_info(), Err(ClientError::Broken(again)) if again == why));
    server.join().unwrap();
    why
}

#[test]
fn patience_is_for_the_whole_reply_whatever_else_the_server_does() {
    let header = |command: Command, size, flags| {
        Header { id: 1, command: command.raw(), size, flags, error: 0 }.to_bytes().to_vec()
    };
    let read = [header(Command::DmaRead, 32, 0x10), longs(&[0, 8])].concat();
    assert_eq!(busy(move |socket| socket.write_all(&read)), ConnectionError::ReplyTimeout, "asks");
    let mut begun = false;
    let endless = header(Command::DeviceGetInfo, 1 << 20, 1);
    let why = busy(move |socket| {
        let bytes = if std::mem::replace(&mut begun, true) { &[0][..] } else { &endless };
        socket.write_all(bytes)
    });
    assert_eq!(why, ConnectionError::ReplyTimeout, "a byte now and then");
}
