//! INTx in the model.

use super::{Checked, Data, Mode, Model, ensure};
use crate::{Answer, flags};

/// INTx while it is active.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Intx {
    /// The eventfd.
    pub trigger: Option<i32>,
    /// INTx is masked: by a request, or by a signal.
    pub masked: bool,
    /// The eventfd that unmasks INTx when user space signals it.
    pub armed: Option<i32>,
}

impl Model {
    pub(super) fn set_intx(&mut self, checked: &Checked) -> Result<(), Answer> {
        let whole = checked.start == 0 && checked.count == 1;
        if checked.action != flags::TRIGGER {
            ensure(whole, Answer::EINVAL)?;
            return self.set_intx_mask(checked.action == flags::MASK, &checked.data);
        }
        if checked.count == 0 && checked.data == Data::None && matches!(self.mode, Mode::Intx(_)) {
            self.mode = Mode::Idle;
            return Ok(());
        }
        ensure(whole && !matches!(self.mode, Mode::Vectors(_)), Answer::EINVAL)?;
        let chosen = match &checked.data {
            Data::Eventfd(fds) => return self.set_intx_trigger(fds.first().copied()),
            Data::None => true,
            Data::Bool(bools) => bools.first() == Some(&true),
        };
        let Mode::Intx(intx) = &self.mode else { return Err(Answer::EINVAL) };
        if let (true, Some(fd)) = (chosen, intx.trigger) {
            self.signal(fd, true);
        }
        Ok(())
    }

    fn set_intx_trigger(&mut self, fd: Option<i32>) -> Result<(), Answer> {
        let trigger = match fd {
            Some(fd @ 0..) => Some(self.eventfd(fd)?),
            _ => None,
        };
        match &mut self.mode {
            Mode::Intx(intx) => intx.trigger = trigger,
            mode => *mode = Mode::Intx(Intx { trigger, ..Intx::default() }),
        }
        self.signal_intx_if_asserted();
        Ok(())
    }

    fn set_intx_mask(&mut self, masked: bool, data: &Data) -> Result<(), Answer> {
        let Mode::Intx(intx) = &self.mode else { return Err(Answer::EINVAL) };
        let mut intx = intx.clone();
        match data {
            Data::None => intx.masked = masked,
            Data::Bool(bools) if bools.first() == Some(&true) => intx.masked = masked,
            Data::Bool(_) => {}
            Data::Eventfd(_) if masked => return Err(Answer::ENOTTY),
            Data::Eventfd(fds) => match fds.first() {
                Some(fd @ 0..) => {
                    let fd = self.eventfd(*fd)?;
                    ensure(intx.armed.is_none(), Answer::EBUSY)?;
                    intx.armed = Some(fd);
                }
                _ => intx.armed = None,
            },
        }
        self.mode = Mode::Intx(intx);
        self.signal_intx_if_asserted();
        Ok(())
    }

    /// INTx is a level: it signals whenever it is asserted and not masked, and a signal masks it
    ///
    pub(super) fn signal_intx_if_asserted(&mut self) {
        if let Mode::Intx(intx) = &mut self.mode
            && self.asserted
            && !intx.masked
        {
            intx.masked = true;
            if let Some(fd) = intx.trigger {
                self.signal(fd, true);
            }
        }
    }
}
