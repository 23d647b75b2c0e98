/* SPDX-License-Identifier: GPL-2.0 */
/* Files whose data the CPU has to see. Functions return 0 or -errno. */
#ifndef IOU_DMABUF_FILEATTR_H
#define IOU_DMABUF_FILEATTR_H

/* What is made in @dir is encrypted; the file system has a key for it */
int file_encrypt_dir(const char *dir);
/* Nobody can write to the file any more */
int file_enable_verity(const char *path);

#endif
