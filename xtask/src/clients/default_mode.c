/*
 * Linked with Linux's selftests of VFIO. They try the character device and iommufd unless a test
 * names another mode, and have no option for it. A stock kernel of Debian has neither.
 */
#include <stdlib.h>

extern const char *default_iommu_mode;

__attribute__((constructor)) static void choose_default_mode(void)
{
	const char *mode = getenv("VFIO_SELFTESTS_IOMMU_MODE");

	if (mode)
		default_iommu_mode = mode;
}
