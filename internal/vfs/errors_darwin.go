package vfs

import "syscall"

// damagedFS is what a file system answers when its own structures are damaged.
const damagedFS = syscall.EIO
