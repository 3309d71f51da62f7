//! Chooses the processors of client and servers, and pins threads to them.

use crate::error::Error;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A processor for the client and one for the servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The processor of the client.
    pub client: usize,
    /// The processor of the servers.
    pub server: usize,
}

/// Returns the processors that this process may use.
fn usable() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None).map_err(Error::system("cannot ask for processors"))?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Returns the requested processors. Without a request, returns the first two, or `None` if there
/// is only one.
pub fn choose(asked: Option<&[usize]>) -> Result<Option<Pair>, Error> {
    pick(asked, &usable()?)
}

fn pick(asked: Option<&[usize]>, usable: &[usize]) -> Result<Option<Pair>, Error> {
    match (asked, usable) {
        (None, [client, server, ..]) => Ok(Some(Pair { client: *client, server: *server })),
        (None, _) => Ok(None),
        (Some([client, server]), _) if usable.contains(client) && usable.contains(server) => {
            Ok(Some(Pair { client: *client, server: *server }))
        }
        (Some(asked), _) => Err(Error::Processors { asked: list(asked), there: list(usable) }),
    }
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Pins the calling thread, and the threads that it will start, to one processor.
pub fn pin(cpu: usize) -> Result<(), Error> {
    let mut set = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(Error::Processors { asked: cpu.to_string(), there: list(&usable()?) });
    }
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(Error::system("cannot stay on one processor"))
}

#[cfg(test)]
mod tests {
    use super::{Pair, pick};

    #[test]
    fn the_first_two_or_none_or_as_asked() {
        assert_eq!(pick(None, &[2, 5, 7]).unwrap(), Some(Pair { client: 2, server: 5 }));
        assert_eq!(pick(None, &[2]).unwrap(), None);
        assert_eq!(pick(Some(&[7, 7]), &[2, 7]).unwrap(), Some(Pair { client: 7, server: 7 }));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = pick(Some(&[0, 9]), &[0, 1]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--cpus 0,9 is not possible: this process may use the processors 0,1"
        );
        assert!(pick(Some(&[0]), &[0, 1]).is_err());
    }
}
