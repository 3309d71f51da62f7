//! Driver bugs of the past that no rule of the contract covers. Each test has a process of its own,
//! because the process may never end if the bug is back.

mod hidden;
mod line;
mod power;
mod waits;

use crate::cases::{Outcome, Stop, Verdict, check};
use crate::vfio::Device;
use crate::{Answer, Error, Request, sys::Guarded};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest run before a test counts as stuck. On an idle machine a test takes a second or two.
const LIMIT: Duration = Duration::from_secs(60);

/// The devices under test.
#[derive(Clone, Debug)]
pub struct Place {
    /// Address of an NVMe controller that is bound to a VFIO driver.
    pub bdf: String,
    /// Address of another device that is bound to a VFIO driver.
    pub other: Option<String>,
}

/// One bug of the past.
#[derive(Clone, Copy, Debug)]
pub struct Regression {
    /// The name of the regression.
    pub name: &'static str,
    /// The property that holds now, in a sentence.
    pub proves: &'static str,
    run: fn(&Place) -> Verdict,
}

/// All regressions.
pub const ALL: &[Regression] = &[
    Regression {
        name: "sleeping_device_stays_out_of_reach",
        proves: "A request to a device in D3hot lets nobody through to its memory afterwards.",
        run: power::stays_out_of_reach,
    },
    Regression {
        name: "writes_during_a_request_hold",
        proves: "What user space writes to configuration space during a request is not undone.",
        run: power::writes_hold,
    },
    Regression {
        name: "line_works_after_msix",
        proves: "MSI-X that is disabled with memory decoding off leaves INTx enabled.",
        run: line::works_after_msix,
    },
    Regression {
        name: "disintx_survives_msi",
        proves: "DisINTx that the guest has set is set after MSI goes off, and after a refused enable.",
        run: line::disintx_survives_msi,
    },
    Regression {
        name: "sleeping_device_refuses_to_enable",
        proves: "Enabling MSI-X of a device in D3hot is EINVAL.",
        run: power::sleeping_device_refuses_to_enable,
    },
    Regression {
        name: "close_signals_no_wakeup",
        proves: "Closing a device in low power does not signal its wake-up eventfd.",
        run: power::close_signals_no_wakeup,
    },
    Regression {
        name: "command_stays_as_found",
        proves: "COMMAND and BARs that a hidden reset cleared stay cleared through every request.",
        run: hidden::command_stays_as_found,
    },
    Regression {
        name: "unreadable_entry_is_repaired",
        proves: "Attaching again writes the table entry also where the entry cannot be read.",
        run: hidden::unreadable_entry_is_repaired,
    },
    Regression {
        name: "msi_keeps_its_message",
        proves: "MSI vectors that are attached keep their message when the first one goes.",
        run: hidden::msi_keeps_its_message,
    },
    Regression {
        name: "repair_keeps_affinity",
        proves: "A repair does not undo a change of affinity that comes in between.",
        run: hidden::repair_keeps_affinity,
    },
    Regression {
        name: "withheld_page_holds_up_no_info",
        proves: "GET_IRQ_INFO is answered while other requests wait for user space's memory.",
        run: waits::hold_up_no_info,
    },
    Regression {
        name: "withheld_page_holds_up_no_other_device",
        proves: "Other devices are answered while requests wait for user space's memory.",
        run: waits::hold_up_no_other_device,
    },
    Regression {
        name: "fired_resample_holds_up_no_disable",
        proves: "A resample eventfd that is signalled and closed while its device is busy delays \
                 no INTx that is disabled.",
        run: waits::fired_resample_holds_up_no_disable,
    },
];

/// The word that the process of one regression prints before its reason.
const HELD: &str = "ok";
const BROKEN: &str = "FAIL";
const NOT_APPLICABLE: &str = "n/a";

impl Regression {
    /// Tries the regression in this process, which may never end. Returns the text that
    /// [`Regression::try_apart`] parses.
    pub fn try_here(&self, place: &Place) -> String {
        match (self.run)(place) {
            Ok(()) => HELD.into(),
            Err(Stop::Broken(why)) => format!("{BROKEN} {why}"),
            Err(Stop::NotApplicable(why)) => format!("{NOT_APPLICABLE} {why}"),
        }
    }

    /// Tries the regression in a process of its own. Returns the outcome.
    pub fn try_apart(&self, place: &Place) -> Outcome {
        let said = self.start(place).and_then(wait);
        match said.as_deref().map(|said| said.trim().split_once(' ').unwrap_or((said.trim(), ""))) {
            Ok((HELD, _)) => Outcome::Held,
            Ok((NOT_APPLICABLE, why)) => Outcome::NotApplicable(why.into()),
            Ok((BROKEN, why)) => Outcome::Broken(why.into()),
            Ok(_) => Outcome::Broken("its process died".into()),
            Err(error) => Outcome::Broken(error.to_string()),
        }
    }

    fn start(&self, place: &Place) -> Result<Child, Error> {
        let mut command = Command::new(THIS);
        command.args(["regression", "--name", self.name, "--bdf", &place.bdf]);
        if let Some(other) = &place.other {
            command.args(["--other", other]);
        }
        command.stdout(Stdio::piped()).spawn().map_err(failed)
    }
}

/// The path of this program.
const THIS: &str = "/proc/self/exe";

fn failed(source: std::io::Error) -> Error {
    Error::File { path: THIS.into(), source }
}

/// Waits for a process to end. Returns its output.
fn wait(mut child: Child) -> Result<String, Error> {
    let since = Instant::now();
    while child.try_wait().map_err(failed)?.is_none() {
        if since.elapsed() > LIMIT {
            // The process is not reaped: a process that is stuck in the kernel cannot be killed.
            child.kill().map_err(failed)?;
            return Ok(format!("{BROKEN} it has not ended after {} seconds", LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).map_err(failed)?;
    }
    Ok(said)
}

fn ask(device: &Device, request: &Request) -> Result<Answer, Error> {
    Ok(device.set_irqs(&Guarded::with(&request.bytes())?))
}

/// Sends a request and fails unless it succeeds.
fn must(device: &Device, request: &Request) -> Verdict {
    let answer = ask(device, request)?;
    check(answer == Answer::OK, || format!("{request} answered {answer}"))
}
