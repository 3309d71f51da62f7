//! Serves one client.

use super::listening::Listening;
use super::shared::Shared;
use crate::link::{Arrival, Link, Message, TimeLimits};
use crate::session::{Flow, Session};
use crate::transport::{self, ConnectionError};
use crate::wire::Reply;
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tracing::{info, warn};

/// Frees the device for the next client, also on panic.
struct Leaving<'s>(&'s Shared, &'s Listening);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.1.leave(self.0);
    }
}

/// Serves a client until it disconnects, breaks the protocol, or the server stops.
pub(super) fn serve(shared: &Arc<Shared>, listening: &Listening, socket: Arc<OwnedFd>) {
    let _leaving = Leaving(shared, listening);
    let path = listening.path.display();
    let peer = rustix::net::sockopt::socket_peercred(socket.as_fd());
    let pid = peer.map_or(0, |peer| peer.pid.as_raw_nonzero().get());
    info!(%path, pid, "a client has come");
    let mut endpoint = listening.endpoint.lock();
    let options = &shared.options;
    let limits = TimeLimits { spin: options.spin, stall: options.stall };
    let stop = (Arc::clone(&shared.stop), Arc::clone(&shared.stopping));
    let link = match Link::new(socket, stop, limits, options.longest()) {
        Ok(link) => Arc::new(link),
        Err(error) => return warn!(%path, pid, %error, "the client was sent away"),
    };
    let session = Session::new(&mut endpoint, options.grants());
    match converse(shared, &link, session) {
        ConnectionError::Closed | ConnectionError::Stopped => {
            info!(%path, pid, "the client is gone")
        }
        why => warn!(%path, pid, %why, "the client was sent away"),
    }
}

/// Runs the conversation. Returns the reason why it ended.
fn converse(shared: &Shared, link: &Arc<Link>, mut session: Session<'_>) -> ConnectionError {
    let Err(why) = exchange(shared, link, &mut session);
    if let (ConnectionError::Garbage(errno), Some(offender)) = (why, link.offender()) {
        let mut reply = Reply::default();
        reply.refuse(&offender, errno);
        // Failure is harmless: the connection ends next.
        let _ = link.send(&reply);
    }
    // The link ends before the session is dropped. The session waits for threads of the device,
    // which may wait for the client.
    link.end(why);
    why
}

fn exchange(
    shared: &Shared,
    link: &Arc<Link>,
    session: &mut Session<'_>,
) -> Result<Infallible, ConnectionError> {
    let handshake = transport::after(shared.options.handshake);
    let (mut message, mut reply) = (Message::default(), Reply::default());
    loop {
        let deadline = session.limits().is_none().then_some(handshake);
        match link.next_command(&mut message, || session.resample(), deadline)? {
            Arrival::Timeout if deadline.is_some() => return Err(ConnectionError::ReplyTimeout),
            Arrival::Timeout | Arrival::Watched => {}
            Arrival::Command => {
                let mut fds = std::mem::take(&mut message.fds);
                let packet = message.packet().ok_or(ConnectionError::ProtocolViolation)?;
                let flow = session.answer(packet, &mut fds, message.truncated, &mut reply);
                message.fds = fds;
                if let Some(limits) = session.limits().filter(|_| deadline.is_some()) {
                    let transfer = limits.peer_transfer.min(shared.options.transfer);
                    session.memory().connect(Arc::clone(link), transfer);
                }
                if !reply.bytes().is_empty() {
                    link.send(&reply)?;
                }
                session.close_detached();
                if flow == Flow::End {
                    return Err(ConnectionError::ProtocolViolation);
                }
            }
        }
        session.serve_resample();
    }
}
