//! The data of a command in the guest's memory.

use crate::Common;
use crate::prp::{self, Segment};
use std::sync::Arc;
use vfio_irq_nvme_spec::{Command, Status};

pub(crate) struct Data {
    common: Arc<Common>,
    page: u32,
    /// The segments of the current command. Kept to save an allocation for each command.
    segments: Vec<Segment>,
}

impl Data {
    pub(crate) fn new(common: Arc<Common>, page: u32) -> Self {
        Self { common, page, segments: Vec::new() }
    }

    /// Calls `act` for each segment of the data of a command, with the offset of the segment.
    /// Returns the error status of the PRP list or of `act`.
    pub(crate) fn each_segment(
        &mut self,
        command: &Command,
        len: usize,
        mut act: impl FnMut(&Common, Segment, usize) -> Result<(), Status>,
    ) -> Result<(), Status> {
        prp::map(&self.common.bus.memory, self.page, command, len, &mut self.segments)?;
        let mut at = 0;
        self.segments.iter().try_for_each(|segment| {
            let start = at;
            at += segment.len;
            act(&self.common, *segment, start)
        })
    }

    /// Copies `bytes` to the data of a command. Returns a data transfer error if the memory cannot
    /// be written.
    pub(crate) fn give(&mut self, command: &Command, bytes: &[u8]) -> Result<(), Status> {
        self.each_segment(command, bytes.len(), |common, segment, at| {
            let part = bytes.get(at..at + segment.len).ok_or(Status::DATA_TRANSFER)?;
            let memory = &common.bus.memory;
            memory.write(segment.address, part).map_err(|_| Status::DATA_TRANSFER)
        })
    }

    /// Copies the data of a command to `bytes`. Returns a data transfer error if the memory cannot
    /// be read.
    pub(crate) fn take(&mut self, command: &Command, bytes: &mut [u8]) -> Result<(), Status> {
        self.each_segment(command, bytes.len(), |common, segment, at| {
            let part = bytes.get_mut(at..at + segment.len).ok_or(Status::DATA_TRANSFER)?;
            let memory = &common.bus.memory;
            memory.read(segment.address, part).map_err(|_| Status::DATA_TRANSFER)
        })
    }
}
