# Runs Linux's selftests of VFIO in a guest with an igb and an NVMe controller.
# Without /dev/iommu, tests that need an iommufd cannot pass. The script names them.
failed=0 passed=0
: >/tmp/lacking
: >/tmp/skipped

# Judges the output of a test program: `ok N NAME`, `ok N NAME # SKIP WHY`, `not ok N NAME`.
judge() {
    while read -r first second third rest; do
        case "$first $second" in
        "not ok")
            name=${rest%% *}
            case $name in
            *.iommufd*) [ -e /dev/iommu ] || { echo $name >>/tmp/lacking; continue; } ;;
            esac
            failed=$((failed + 1))
            echo "FAILED: $name"
            ;;
        ok\ [0-9]*)
            case $rest in
            *SKIP*) echo "$third: ${rest#*SKIP }" >>/tmp/skipped ;;
            *) passed=$((passed + 1)) ;;
            esac
            ;;
        esac
    done </tmp/said
}

# A program that ends before its last test has judged nothing.
run() {
    echo "== $*"
    "$@" >/tmp/said 2>&1
    cat /tmp/said
    grep -q "^# Totals:" /tmp/said || { failed=$((failed + 1)); echo "FAILED: $* did not run to its end"; }
    judge
}

# Without large pages a test that pins 1 GiB needs much of its 30 seconds under emulation.
echo always >/sys/kernel/mm/transparent_hugepage/shmem_enabled || exit 1

run vfio_dma_mapping_test $VFIO_IRQ_NVME
run vfio_dma_mapping_mmio_test $VFIO_IRQ_NVME
run vfio_dma_mapping_mmio_test $VFIO_IRQ_IGB
run vfio_pci_device_init_perf_test $VFIO_IRQ_NVME $VFIO_IRQ_IGB
run vfio_pci_sriov_uapi_test $VFIO_IRQ_IGB

# These use the default mode, in all or to look for a driver.
if [ -e /dev/iommu ]; then
    modes="vfio_type1_iommu vfio_type1v2_iommu iommufd_compat_type1 iommufd_compat_type1v2 iommufd"
    run vfio_iommufd_setup_test $VFIO_IRQ_NVME
else
    modes="vfio_type1_iommu vfio_type1v2_iommu"
    echo vfio_iommufd_setup_test >>/tmp/lacking
fi
for mode in $modes; do
    export VFIO_SELFTESTS_IOMMU_MODE=$mode
    echo "the default mode is $mode"
    run vfio_pci_device_test $VFIO_IRQ_NVME
    run vfio_pci_device_test $VFIO_IRQ_IGB
done
run vfio_pci_driver_test $VFIO_IRQ_IGB

# The three modes with an iommufd, in one name.
sed -E 's/\.iommufd(_compat_type1(v2)?)?/.iommufd*/' /tmp/lacking | sort -u >/tmp/named
[ ! -s /tmp/named ] ||
    echo "remark: not applicable without /dev/iommu: $(wc -l </tmp/lacking) tests: $(tr '\n' ' ' </tmp/named)"
sort -u /tmp/skipped | sed 's/^/remark: skipped itself: /'
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
