//! The state machine of one client, without I/O.

mod grants;

use crate::device::Endpoint;
use crate::errno;
use crate::irq::{IrqHost, Known};
use crate::pci::{Bar, region};
use crate::wire::layout::{self, put};
use crate::wire::{
    Access, Capabilities, DmaMap, DmaUnmap, Limits, Packet, Proposal, RegionInfo, Reply, Request,
    SetIrqs, SubRegion, VERSION, Writes,
};
pub use grants::Grants;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tracing::debug;
use vfio_irq_engine::abi::{Header, Index, InfoHeader, flags};
use vfio_irq_engine::{Errno, Event, EventHost, IrqEngine, Refusal};

/// Whether the connection continues.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Flow {
    /// The connection continues.
    On,
    /// The connection ends after the reply is sent.
    End,
}

/// The session of a client. Dropping it closes the client's eventfds (`CONTRACT.md`, V-13), resets
/// the device, and unmaps the memory of the client.
pub struct Session<'e> {
    endpoint: &'e mut Endpoint,
    host: IrqHost,
    engine: IrqEngine<IrqHost>,
    grants: Grants,
    limits: Option<Limits>,
}

impl<'e> Session<'e> {
    /// Starts a session. The first message must be VERSION.
    pub fn new(endpoint: &'e mut Endpoint, grants: Grants) -> Self {
        let host = IrqHost::new(Arc::clone(&endpoint.irqs), endpoint.function.caps);
        let engine = IrqEngine::new(Known::new());
        Self { endpoint, engine, host, grants, limits: None }
    }

    /// Returns the negotiated limits, or `None` before VERSION.
    pub fn limits(&self) -> Option<Limits> {
        self.limits
    }

    /// Handles one message, and takes or closes its descriptors. `truncated` is true if descriptors
    /// were lost (MSG_CTRUNC). Leaves `reply` empty if the client wants no reply. Returns whether
    /// the connection continues.
    pub fn handle(
        &mut self,
        packet: Packet<'_>,
        fds: &mut Vec<OwnedFd>,
        truncated: bool,
        reply: &mut Reply,
    ) -> Flow {
        let flow = self.answer(packet, fds, truncated, reply);
        self.close_detached();
        flow
    }

    /// Does the same as [`Session::handle`], but leaves detached eventfds open until
    /// [`Session::close_detached`]. So the client does not wait for `close(2)`.
    pub(crate) fn answer(
        &mut self,
        packet: Packet<'_>,
        fds: &mut Vec<OwnedFd>,
        truncated: bool,
        reply: &mut Reply,
    ) -> Flow {
        reply.clear();
        let header = packet.header();
        let outcome = if !header.is_command() {
            Err(Errno::EINVAL)
        } else if truncated {
            Err(errno::EMFILE)
        } else {
            self.dispatch(packet, fds, reply)
        };
        fds.clear();
        self.host.take_back();
        match outcome {
            Ok(()) if header.wants_reply() => reply.answer(&header),
            Ok(()) => reply.clear(),
            Err(why) => {
                debug!(command = header.command, %why, "refused");
                reply.refuse(&header, why);
                if !header.wants_reply() {
                    reply.clear();
                }
            }
        }
        if self.limits.is_some() && header.is_command() { Flow::On } else { Flow::End }
    }

    /// Closes what [`Session::answer`] left open.
    pub(crate) fn close_detached(&mut self) {
        self.host.close_detached();
    }

    fn dispatch(
        &mut self,
        packet: Packet<'_>,
        fds: &mut Vec<OwnedFd>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let request = Request::check(packet, fds.len())?;
        let negotiating = matches!(request, Request::Version(_));
        if negotiating != self.limits.is_none() {
            return Err(Errno::EINVAL);
        }
        let out = reply.begin();
        match request {
            Request::Version(proposal) => {
                // VERSION without a reply negotiates nothing.
                if !packet.header().wants_reply() {
                    return Err(Errno::EINVAL);
                }
                self.negotiate(proposal, out)?;
            }
            Request::DmaMap(map) => self.map(&map, fds.pop())?,
            Request::DmaUnmap(unmap) => self.unmap(&unmap, out)?,
            Request::DeviceInfo => put(out, &[16, 1 | 2, region::COUNT, 5]),
            Request::RegionInfo { argsz, index } => self.region_info(argsz, index, reply)?,
            Request::RegionIoFds { argsz, index } => self.region_io_fds(argsz, index, reply)?,
            Request::IrqInfo(asked) => self.irq_info(asked, out)?,
            Request::SetIrqs(request) => self.set_irqs(&request, fds)?,
            Request::RegionRead(access) => self.read(access, out)?,
            Request::RegionWrite(access, data) => self.write(access, data, out)?,
            Request::RegionWriteMulti(writes) => self.write_multi(writes, out)?,
            Request::Reset => self.endpoint.reset(),
        }
        Ok(())
    }

    fn negotiate(&mut self, proposal: Proposal<'_>, out: &mut Vec<u8>) -> Result<(), Errno> {
        if proposal.major != VERSION.0 {
            return Err(errno::EOPNOTSUPP);
        }
        let offer = proposal.capabilities()?;
        offer.check()?;
        let minor = proposal.minor.min(VERSION.1);
        let answer = Capabilities::ours(self.grants.transfer, self.grants.dma_maps).answer(&offer);
        answer.put((VERSION.0, minor), out);
        self.grants = self.grants.effective(&answer);
        self.limits = Some(offer.limits(minor));
        self.endpoint.device.connected();
        Ok(())
    }

    fn map(&mut self, map: &DmaMap, fd: Option<OwnedFd>) -> Result<(), Errno> {
        self.endpoint.memory.map(map, fd, self.grants.dma_maps)?;
        self.endpoint.device.mapped(map.address, map.size);
        Ok(())
    }

    fn unmap(&mut self, unmap: &DmaUnmap, out: &mut Vec<u8>) -> Result<(), Errno> {
        let (memory, device) = (&self.endpoint.memory, &mut self.endpoint.device);
        if unmap.all {
            device.unmapping(0, u64::MAX);
            memory.unmap_all();
        } else {
            if !memory.is_range(unmap.address, unmap.size) {
                return Err(errno::ENOENT);
            }
            device.unmapping(unmap.address, unmap.size);
            memory.unmap(unmap.address, unmap.size)?;
        }
        let DmaUnmap { argsz, address, size, all } = *unmap;
        let flags = if all { layout::DmaUnmap::ALL } else { 0 };
        put(out, &layout::DmaUnmap { argsz, flags, address, size });
        Ok(())
    }

    fn region_info(&self, argsz: u32, index: u32, reply: &mut Reply) -> Result<(), Errno> {
        let size = self.endpoint.region_size(index).ok_or(Errno::EINVAL)?;
        let mut info = RegionInfo { index, size, ..RegionInfo::default() };
        if size > 0 {
            info.flags = RegionInfo::READ | RegionInfo::WRITE;
        }
        let bar = self.endpoint.function.bars.get(index as usize).and_then(Option::as_ref);
        // A client that cannot receive descriptors is offered none.
        let share = bar.and_then(|bar| bar.share.as_ref()).filter(|_| self.peer_fds() > 0);
        if let Some(share) = share {
            info.flags |= RegionInfo::MMAP;
            info.offset = share.offset;
            info.areas = &share.areas;
        }
        info.put(argsz, reply.begin());
        if let Some(share) = share {
            reply.attach(Arc::clone(&share.fd));
        }
        Ok(())
    }

    fn peer_fds(&self) -> usize {
        self.limits.map_or(0, |limits| limits.peer_fds)
    }

    fn region_io_fds(&self, argsz: u32, index: u32, reply: &mut Reply) -> Result<(), Errno> {
        self.endpoint.region_size(index).filter(|size| *size > 0).ok_or(Errno::EINVAL)?;
        let bar = self.endpoint.function.bars.get(index as usize).and_then(Option::as_ref);
        let eventfds = bar.map(|bar| bar.eventfds.as_slice()).unwrap_or_default();
        let mut fds: Vec<Arc<OwnedFd>> = Vec::new();
        let mut sub_regions = Vec::with_capacity(eventfds.len());
        for eventfd in eventfds {
            let same = |fd: &Arc<OwnedFd>| fd.as_raw_fd() == eventfd.fd.as_raw_fd();
            let place = fds.iter().position(same);
            if place.is_none() && fds.len() >= self.peer_fds() {
                // If the client cannot receive the descriptor, writes to the sub-region are
                // messages.
                continue;
            }
            let place = place.unwrap_or_else(|| {
                fds.push(Arc::clone(&eventfd.fd));
                fds.len() - 1
            });
            let datamatch = eventfd.datamatch.map_or(0, |_| SubRegion::DATAMATCH);
            let pio = if bar.is_some_and(Bar::is_io) { SubRegion::PIO } else { 0 };
            sub_regions.push(SubRegion {
                offset: eventfd.offset,
                size: eventfd.size,
                fd_index: u32::try_from(place).unwrap_or(0),
                kind: SubRegion::IOEVENTFD,
                flags: datamatch | pio,
                padding: 0,
                datamatch: eventfd.datamatch.unwrap_or(0),
            });
        }
        if SubRegion::put_all(index, &sub_regions, argsz, reply.begin()) {
            for fd in fds {
                reply.attach(fd);
            }
        }
        Ok(())
    }

    fn irq_info(&self, asked: InfoHeader, out: &mut Vec<u8>) -> Result<(), Errno> {
        let info = self.engine.info(&self.host, asked.check()?);
        let answer = InfoHeader { argsz: 16, ..asked.answered(info) };
        out.extend_from_slice(&answer.to_bytes());
        Ok(())
    }

    /// `CONTRACT.md`, C to B. Positive answers (V-06) do not exist here: there are always as many
    /// vectors as the index says.
    fn set_irqs(&mut self, request: &SetIrqs<'_>, fds: &mut Vec<OwnedFd>) -> Result<(), Errno> {
        let checked = self.engine.check(&self.host, request.header)?;
        if self.disables_what_is_idle(&request.header) {
            return Ok(());
        }
        let request = if request.header.flags & flags::DATA_EVENTFD == 0 {
            checked.request(request.bools)?
        } else {
            checked.request_by_position(request.fds)?
        };
        self.host.lend(fds);
        self.engine.set_irqs(&mut self.host, &request).map_err(|refusal| match refusal {
            Refusal::Errno(errno) => errno,
            Refusal::TooFew(_) => Errno::ENOSPC,
        })
    }

    /// Returns true for a DISABLE of an idle index. The contract has EINVAL for it (`CONTRACT.md`,
    /// V-03, X-03, E-04), but clients of the protocol send it.
    fn disables_what_is_idle(&self, header: &Header) -> bool {
        let disables = header.flags == flags::DATA_NONE | flags::ACTION_TRIGGER;
        let idle = |index| match index {
            Index::Intx | Index::Msi | Index::Msix => self.engine.active().is_none(),
            Index::Err => !self.host.event_is_set(Event::Err),
            Index::Req => !self.host.event_is_set(Event::Req),
        };
        disables && header.count == 0 && Index::from_raw(header.index).is_some_and(idle)
    }

    fn read(&mut self, access: Access, out: &mut Vec<u8>) -> Result<(), Errno> {
        if access.count > self.grants.transfer {
            return Err(Errno::EINVAL);
        }
        self.endpoint.check(access.region, access.end())?;
        put(out, &access);
        let head = out.len();
        out.resize(head + access.count as usize, 0);
        let data = out.get_mut(head..).unwrap_or_default();
        self.endpoint.read(access.region, access.offset, data)
    }

    fn write(&mut self, access: Access, data: &[u8], out: &mut Vec<u8>) -> Result<(), Errno> {
        if access.count > self.grants.transfer {
            return Err(Errno::EINVAL);
        }
        self.endpoint.write(access.region, access.offset, data)?;
        put(out, &access);
        Ok(())
    }

    /// Carries out several writes. All are checked before the first is carried out. If the device
    /// refuses a write, the session stops there. It reports the number of writes, or the error if
    /// there was none.
    fn write_multi(&mut self, writes: Writes<'_>, out: &mut Vec<u8>) -> Result<(), Errno> {
        for write in writes.iter() {
            self.endpoint.check(write.access.region, write.access.end())?;
        }
        let mut done = 0_u64;
        for write in writes.iter() {
            match self.endpoint.write(write.access.region, write.access.offset, write.data) {
                Ok(()) => done += 1,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        put(out, &done);
        Ok(())
    }

    /// Returns the eventfd that unmasks INTx (resample), if the client set one (`CONTRACT.md`,
    ///
    pub fn resample(&self) -> Option<BorrowedFd<'_>> {
        self.host.resample()
    }

    /// Unmasks INTx if the eventfd of [`Session::resample`] was signalled (`CONTRACT.md`, X-02).
    pub fn serve_resample(&mut self) {
        self.host.serve_resample();
    }

    /// Returns the enabled interrupt index.
    pub fn active(&self) -> Option<Index> {
        self.engine.active()
    }

    /// Returns the memory of the client.
    pub(crate) fn memory(&self) -> &crate::Memory {
        &self.endpoint.memory
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // Before VERSION the client cannot have changed anything.
        let used = self.limits.is_some();
        if used {
            self.endpoint.device.disconnected();
        }
        self.engine.close(&mut self.host);
        if used {
            self.endpoint.reset();
        }
        self.endpoint.memory.disconnect();
    }
}
