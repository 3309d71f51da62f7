//! GET_IRQ_INFO: rules I.

use super::dut::{check, need};
use super::{Dut, Stop, Verdict, cases};
use crate::{Answer, Index, Info, Request, flags, requests};

/// Asks with these bytes. Fails unless the answer is `expected` and the bytes are unchanged.
fn refused(dut: &mut Dut<'_>, bytes: &[u8], expected: Answer) -> Verdict {
    let mut asked = bytes.to_vec();
    let answer = dut.target.get_irq_info(&mut asked)?;
    check(answer == expected, || format!("{bytes:?} answered {answer}, not {expected}"))?;
    check(asked == bytes, || format!("{bytes:?} was refused and overwritten"))
}

fn says(dut: &mut Dut<'_>, index: Index, bits: u32, count: u32) -> Verdict {
    let info = dut.info(index)?;
    let expected = Info { argsz: 16, flags: bits, index: index.raw(), count };
    check(info == expected, || format!("{info:?}, not {expected:?}"))
}

cases! {
    /// An address that cannot be read, in whole or in part, is EFAULT.
    fn i01_unreadable_is_efault(dut) {
        for index in Index::ALL {
            let bytes = requests::ask(index.raw()).to_bytes();
            for len in [0, 1, 4, 8, 12, 15] {
                refused(dut, bytes.get(..len).unwrap_or_default(), Answer::EFAULT)?;
            }
        }
        Ok(())
    }

    /// An address that can be read and not written is EFAULT.
    fn i01_unwritable_is_efault(dut) {
        let bytes = requests::ask(Index::Msix.raw()).to_bytes();
        match dut.target.get_irq_info_unwritable(&bytes)? {
            None => need(false, "nothing is read-only here"),
            Some(answer) => check(answer == Answer::EFAULT, || format!("it answered {answer}")),
        }
    }

    /// argsz below 16 is EINVAL.
    fn i02_short_argsz_is_einval(dut) {
        for (index, argsz) in Index::ALL.into_iter().flat_map(|i| [0, 1, 15].map(|a| (i, a))) {
            let asked = Info { argsz, ..requests::ask(index.raw()) };
            refused(dut, &asked.to_bytes(), Answer::EINVAL)?;
        }
        Ok(())
    }

    /// A larger argsz succeeds, and comes back unchanged.
    fn i02_long_argsz_is_fine(dut) {
        for argsz in [17, 20, 4096, u32::MAX] {
            let mut bytes = Info { argsz, ..requests::ask(Index::Req.raw()) }.to_bytes();
            let answer = dut.target.get_irq_info(&mut bytes)?;
            let info = Info::from_bytes(&bytes);
            let fine = answer == Answer::OK && info.argsz == argsz && info.count == 1;
            check(fine, || format!("argsz {argsz} answered {answer} with {info:?}"))?;
        }
        Ok(())
    }

    /// An index above 4 is EINVAL.
    fn i02_unknown_index_is_einval(dut) {
        [5, 6, 255, 256, 0x8000_0000, u32::MAX]
            .into_iter()
            .try_for_each(|index| refused(dut, &requests::ask(index).to_bytes(), Answer::EINVAL))
    }

    /// INTx: count 1 with an interrupt pin; EVENTFD, MASKABLE, AUTOMASKED.
    fn i03_line(dut) {
        let pin = u32::from(dut.facts().pin);
        says(dut, Index::Intx, flags::EVENTFD | flags::MASKABLE | flags::AUTOMASKED, pin)
    }

    /// MSI: the count of the capability; EVENTFD, NORESIZE.
    fn i04_msi(dut) {
        let facts = dut.facts();
        let info = dut.info(Index::Msi)?;
        check(info.count == facts.msi, || format!("{info:?} of a device with {facts:?}"))?;
        let bits = info.flags & !flags::MASKABLE;
        check(bits == flags::EVENTFD | flags::NORESIZE, || format!("the flags are {bits:#x}"))
    }

    /// MSI-X: the count of the table; EVENTFD.
    fn i05_msix(dut) {
        let facts = dut.facts();
        let info = dut.info(Index::Msix)?;
        check(info.count == facts.msix, || format!("{info:?} of a device with {facts:?}"))?;
        let bits = info.flags & !flags::MASKABLE & !flags::NORESIZE;
        check(bits == flags::EVENTFD, || format!("the flags are {bits:#x}"))
    }

    /// NORESIZE of MSI-X is set exactly if a vector cannot be added while others are in use.
    fn i05_noresize_is_true(dut) {
        need(dut.info(Index::Msix)?.count >= 2, "the device has too few vectors of MSI-X")?;
        let dynamic = dut.dynamic(Index::Msix)?;
        let [first, second] = dut.fds()?;
        dut.attach(Index::Msix, 0, &[first])?;
        let added = if dynamic { Answer::OK } else { Answer::EINVAL };
        dut.expect(&Request::attach(Index::Msix, 1, &[second]), added)
    }

    /// The answers do not depend on the active index.
    fn i05_same_while_active(dut) {
        let all = |dut: &mut Dut<'_>| -> Result<Vec<Info>, Stop> {
            dut.indexes()?.into_iter().map(|index| dut.info(index)).collect()
        };
        let before = all(dut)?;
        dut.each(1, |dut, index, _| {
            let fd = dut.fd()?;
            dut.attach(index, 0, &[fd])?;
            let now = all(dut)?;
            check(before == now, || format!("idle {before:?}, {index:?} active {now:?}"))
        })
    }

    /// ERR and REQ: count 1; EVENTFD, NORESIZE.
    fn i06_events(dut) {
        let bits = flags::EVENTFD | flags::NORESIZE;
        says(dut, Index::Req, bits, 1)?;
        // Linux 6.12 and before have ERR on PCI Express only.
        let needed = dut.beyond() || dut.has(Index::Err)?;
        if needed { says(dut, Index::Err, bits, 1) } else { Ok(()) }
    }

    /// MASKABLE: MSI-X always, MSI if the function has mask bits; in Linux never.
    fn i07_maskable(dut) {
        let (beyond, facts) = (dut.beyond(), dut.facts());
        for (index, count, can) in
            [(Index::Msi, facts.msi, facts.msi_mask_bits), (Index::Msix, facts.msix, true)]
        {
            let said = dut.maskable(index)?;
            let expected = beyond && can;
            let wrong = || format!("{index:?} of {facts:?}: MASKABLE is {said}");
            check(count == 0 || said == expected, wrong)?;
        }
        Ok(())
    }
}
