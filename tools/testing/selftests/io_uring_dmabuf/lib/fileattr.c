// SPDX-License-Identifier: GPL-2.0
/* Files whose data the CPU has to see */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <linux/fscrypt.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>

#include "fileattr.h"
#include "mem.h"

#define KEY_SEED	7

int file_encrypt_dir(const char *dir)
{
	struct {
		struct fscrypt_add_key_arg arg;
		char raw[64];
	} key = {
		.arg.key_spec.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER,
		.arg.raw_size = sizeof(key.raw),
	};
	struct fscrypt_policy_v2 policy = {
		.version = FSCRYPT_POLICY_V2,
		.contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
		.filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
	};
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret = 0;

	pattern_fill(key.raw, 0, sizeof(key.raw), KEY_SEED);
	if (fd < 0 || ioctl(fd, FS_IOC_ADD_ENCRYPTION_KEY, &key))
		ret = -errno;
	memcpy(policy.master_key_identifier, key.arg.key_spec.u.identifier,
	       sizeof(policy.master_key_identifier));
	if (!ret && ioctl(fd, FS_IOC_SET_ENCRYPTION_POLICY, &policy))
		ret = -errno;
	if (fd >= 0)
		close(fd);
	return ret;
}

int file_enable_verity(const char *path)
{
	struct fsverity_enable_arg arg = {
		.version = 1,
		.hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
		.block_size = 4096,
	};
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0 || ioctl(fd, FS_IOC_ENABLE_VERITY, &arg))
		ret = -errno;
	if (fd >= 0)
		close(fd);
	return ret;
}
