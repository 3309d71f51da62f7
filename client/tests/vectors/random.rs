//! Random calls with random failing steps, against a model. After each call, the test raises every
//! vector and compares the signals with the model. A second test calls from several threads.

use crate::hosts::{LikeC, no_eventfd};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vfio_irq::sim::{Errno, IrqCaps, Simulated};
use vfio_irq::{Error, Index, NoResize, Transport, Trigger, Vector, Vectors};

/// Number of vectors that the calls use.
const NUMBERS: u32 = 8;

#[derive(Clone, Debug)]
enum Call {
    Enable(u32),
    EnableMany(u8),
    Retarget(u32),
    RetargetMany(u8),
    /// One of the descriptors is not an eventfd.
    RetargetBadly(u8),
    Detach(u32),
    Mask(u32),
    Unmask(u32),
    MaskAll,
    UnmaskAll,
    Disable,
    Raise(u32),
}

fn call() -> impl Strategy<Value = Call> {
    let number = || 0..NUMBERS;
    prop_oneof![
        4 => number().prop_map(Call::Enable),
        2 => any::<u8>().prop_map(Call::EnableMany),
        4 => number().prop_map(Call::Retarget),
        2 => any::<u8>().prop_map(Call::RetargetMany),
        1 => any::<u8>().prop_map(Call::RetargetBadly),
        4 => number().prop_map(Call::Detach),
        2 => number().prop_map(Call::Mask),
        2 => number().prop_map(Call::Unmask),
        1 => Just(Call::MaskAll),
        1 => Just(Call::UnmaskAll),
        1 => Just(Call::Disable),
        4 => number().prop_map(Call::Raise),
    ]
}

/// Returns calls, each with the number of steps before a failing one.
fn steps(most: usize) -> impl Strategy<Value = Vec<(Call, Option<u64>)>> {
    let fails = prop::option::weighted(0.4, 0..6_u64);
    prop::collection::vec((call(), fails), 1..most)
}

fn policy() -> impl Strategy<Value = NoResize> {
    prop_oneof![
        Just(NoResize::default()),
        (0..3_u32).prop_map(|spare| NoResize::Reenable { spare }),
    ]
}

fn fresh() -> Trigger {
    Trigger::new().unwrap()
}

fn chosen(bits: u8) -> impl Iterator<Item = u32> {
    (0..NUMBERS).filter(move |number| bits >> number & 1 == 1)
}

/// The handles of one caller.
struct Caller<'v, T: Transport> {
    vectors: &'v Vectors<T>,
    held: BTreeMap<u32, Vector<T>>,
}

impl<T: Transport> Caller<'_, T> {
    fn make(&mut self, call: &Call, device: &Simulated) -> Result<(), Error> {
        let vectors = self.vectors;
        match *call {
            Call::Enable(number) => self.keep([vectors.enable(number, fresh())?]),
            Call::EnableMany(bits) => {
                let wanted = chosen(bits).map(|number| (number, fresh()));
                self.keep(vectors.enable_many(wanted)?);
            }
            Call::Retarget(number) => {
                self.held.get(&number).map_or(Ok(()), |vector| vector.retarget(fresh()))?;
            }
            Call::RetargetMany(bits) => self.retarget(bits, |_| fresh())?,
            Call::RetargetBadly(bits) => {
                let bad = chosen(bits).last();
                let trigger = |number| if Some(number) == bad { no_eventfd() } else { fresh() };
                self.retarget(bits, trigger)?;
            }
            Call::Detach(number) => self.held.remove(&number).map_or(Ok(()), Vector::detach)?,
            Call::Mask(number) => vectors.mask(number, 1)?,
            Call::Unmask(number) => vectors.unmask(number, 1)?,
            Call::MaskAll => vectors.mask(0, NUMBERS)?,
            Call::UnmaskAll => vectors.unmask(0, NUMBERS)?,
            Call::Disable => vectors.disable()?,
            Call::Raise(number) => device.raise(number),
        }
        Ok(())
    }

    fn retarget(&self, bits: u8, trigger: impl Fn(u32) -> Trigger) -> Result<(), Error> {
        let wanted = chosen(bits).filter_map(|number| self.held.get(&number));
        self.vectors.retarget_many(wanted.map(|vector| (vector, trigger(vector.number()))))
    }

    fn keep(&mut self, new: impl IntoIterator<Item = Vector<T>>) {
        self.held.extend(new.into_iter().map(|vector| (vector.number(), vector)));
    }

    /// The eventfds of handles that are not stale.
    fn live(&self) -> BTreeMap<u32, Trigger> {
        let live = |(number, vector): (&u32, &Vector<T>)| Some((*number, vector.trigger().ok()?));
        self.held.iter().filter_map(live).collect()
    }
}

/// The model: the eventfd of each vector, and the masked vectors.
#[derive(Default, Debug)]
struct Model {
    attached: BTreeMap<u32, Trigger>,
    masked: [bool; NUMBERS as usize],
}

impl Model {
    /// Applies a successful call to the model. The handles have the new eventfds.
    fn done(&mut self, call: &Call, live: &BTreeMap<u32, Trigger>) {
        match *call {
            Call::Enable(_)
            | Call::EnableMany(_)
            | Call::Retarget(_)
            | Call::RetargetMany(_)
            | Call::RetargetBadly(_) => {
                let named: Vec<u32> = match *call {
                    Call::Enable(number) | Call::Retarget(number) => vec![number],
                    Call::EnableMany(bits)
                    | Call::RetargetMany(bits)
                    | Call::RetargetBadly(bits) => chosen(bits).collect(),
                    _ => Vec::new(),
                };
                let new =
                    named.iter().filter_map(|number| Some((*number, live.get(number)?.clone())));
                self.attached.extend(new);
            }
            Call::Detach(number) => {
                if !live.contains_key(&number) {
                    self.attached.remove(&number);
                }
            }
            Call::Mask(number) => self.masked[number as usize] = true,
            Call::Unmask(number) => self.masked[number as usize] = false,
            Call::MaskAll => self.masked = [true; NUMBERS as usize],
            Call::UnmaskAll => self.masked = [false; NUMBERS as usize],
            Call::Disable => *self = Self::default(),
            Call::Raise(_) => {}
        }
    }

    /// Raises each vector, and checks which eventfd is signalled.
    fn check(&self, device: &Simulated) -> Result<(), TestCaseError> {
        self.attached.values().for_each(|trigger| _ = trigger.take());
        for number in 0..NUMBERS {
            device.raise(number);
            for (other, trigger) in &self.attached {
                let told = *other == number && !self.masked[number as usize];
                prop_assert_eq!(
                    trigger.take(),
                    u64::from(told),
                    "{} raised, {} told",
                    number,
                    other
                );
            }
        }
        Ok(())
    }
}

fn one_caller<T: Transport>(
    vectors: Vectors<T>,
    device: &Simulated,
    calls: &[(Call, Option<u64>)],
) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let mut caller = Caller { vectors: &vectors, held: BTreeMap::new() };
    for (call, fails) in calls {
        if let Some(step) = fails {
            device.fail_step(*step, Errno::ENOMEM);
        }
        // A detach of a vector without a handle does nothing.
        let held = !matches!(call, Call::Detach(number) if !caller.held.contains_key(number));
        let outcome = caller.make(call, device);
        device.disarm();
        match outcome {
            Ok(()) if held => model.done(call, &caller.live()),
            Err(Error::Unrestored { lost, .. }) => {
                lost.iter().for_each(|number| _ = model.attached.remove(number));
                if !vectors.is_active() {
                    model = Model::default();
                }
            }
            Ok(()) | Err(_) => {}
        }
        let expected: Vec<u32> = model.attached.keys().copied().collect();
        prop_assert_eq!(vectors.enabled(), expected, "after {:?}", call);
        model.check(device)?;
    }
    drop(caller);
    drop(vectors);
    prop_assert_eq!(device.leaks(), None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_in_any_order_are_what_the_model_says(
        calls in steps(40), dynamic: bool, policy in policy()
    ) {
        let device = Arc::new(Simulated::with(IrqCaps { dynamic, ..IrqCaps::default() }));
        let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msix, policy).unwrap();
        one_caller(vectors, &device, &calls)?;
    }

    #[test]
    fn the_same_on_a_host_that_kills_vectors(
        calls in steps(40), dynamic: bool, policy in policy()
    ) {
        let device = Arc::new(Simulated::with(IrqCaps { dynamic, ..IrqCaps::default() }));
        let host = LikeC(Arc::clone(&device));
        let vectors = Vectors::with_policy(host, Index::Msix, policy).unwrap();
        one_caller(vectors, &device, &calls)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Four threads change the same vectors while the device raises all of them. At the end, each
    /// handle either is stale or has the eventfd that its vector signals.
    #[test]
    fn threads_agree_in_the_end(
        plans in prop::collection::vec(steps(60), 4), dynamic: bool, policy in policy()
    ) {
        let device = Arc::new(Simulated::with(IrqCaps { dynamic, ..IrqCaps::default() }));
        let vectors = Vectors::with_policy(Arc::clone(&device), Index::Msix, policy).unwrap();
        let over = AtomicBool::new(false);
        let callers: Vec<Caller<'_, _>> = std::thread::scope(|scope| {
            let storm = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    (0..NUMBERS).for_each(|number| device.raise(number));
                }
            });
            let threads: Vec<_> = plans
                .iter()
                .map(|plan| scope.spawn(|| run(plan, &vectors, &device)))
                .collect();
            let callers = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            over.store(true, Ordering::Relaxed);
            storm.join().unwrap();
            callers
        });
        device.disarm();
        if vectors.is_active() {
            vectors.unmask(0, NUMBERS).unwrap();
        }
        let mut live: BTreeMap<u32, Trigger> = BTreeMap::new();
        let mut stale = Vec::new();
        for caller in &callers {
            for (number, trigger) in caller.live() {
                prop_assert!(live.insert(number, trigger).is_none(), "two handles for {}", number);
            }
            stale.extend(caller.held.iter().filter(|(_, vector)| vector.trigger().is_err()));
        }
        // Vectors whose detach was refused are enabled and have no handle.
        prop_assert!(live.keys().all(|number| vectors.enabled().contains(number)));
        Model { attached: live, ..Model::default() }.check(&device)?;
        for (_, vector) in stale {
            let refused = matches!(vector.retarget(fresh()), Err(Error::Disabled { .. }));
            prop_assert!(refused, "a stale handle did something");
        }
        drop(callers);
        drop(vectors);
        prop_assert_eq!(device.leaks(), None);
    }
}

fn run<'v>(
    plan: &[(Call, Option<u64>)],
    vectors: &'v Vectors<Arc<Simulated>>,
    device: &Simulated,
) -> Caller<'v, Arc<Simulated>> {
    let mut caller = Caller { vectors, held: BTreeMap::new() };
    for (call, fails) in plan {
        if let Some(step) = fails {
            device.fail_step(*step, Errno::ENOMEM);
        }
        // The schedule decides which thread gets the failure, and which finds a vector enabled.
        let _ = caller.make(call, device);
    }
    caller
}
