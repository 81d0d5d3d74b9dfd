package vfs

// allocator is a File that can take room on the volume without being written.
type allocator interface {
	allocate(size int64) error
}

// cacheDropper is a File that can make later reads come from the device.
type cacheDropper interface {
	dropCache() error
}

// freshReader is a File that can be read past the memory of the system.
type freshReader interface {
	readFresh(p []byte, off int64) (int, error)
}

// allocateStep is how much Allocate writes at once where room can only be taken by writing.
const allocateStep = 1 << 20

// Allocate takes size bytes of the volume for f, from its start, so that others cannot.
// The file's size may stay smaller than that. Truncate gives the room back. What was
// taken before is not taken twice. NoSpace tells a full volume, of which nothing is taken
// then.
func Allocate(f File, size int64) error {
	if a, ok := f.(allocator); ok {
		return a.allocate(size)
	}
	return allocateByWriting(f, size)
}

// allocateByWriting fills f up to size.
func allocateByWriting(f File, size int64) error {
	at, err := f.Size()
	if err != nil {
		return err
	}
	b := make([]byte, allocateStep)
	for i := range b {
		b[i] = byte(i) // zeros may take no room
	}
	for at < size {
		n, err := f.WriteAt(b[:min(int64(len(b)), size-at)], at)
		if at += int64(n); err != nil {
			_ = f.Truncate(0) // half of it helps nobody
			return err
		}
	}
	return nil
}

// DropCache makes later reads of f come from the device and not from memory, as far as
// the system allows and the bytes in memory are those of the device. After a failed sync
// memory may hold what the disk does not.
func DropCache(f File) error {
	if c, ok := f.(cacheDropper); ok {
		return c.dropCache()
	}
	return nil
}

// ReadFresh is f.ReadAt for who wants to know what the device holds: what memory has of
// these bytes, and is not still to be written, is dropped before the read and again
// after it, so that reading a large file does not push out what others use. Where
// the system cannot do that it reads as ReadAt does. Only whole pages are dropped: off and
// len(p) should be multiples of 4 KiB.
func ReadFresh(f File, p []byte, off int64) (int, error) {
	if r, ok := f.(freshReader); ok {
		return r.readFresh(p, off)
	}
	return f.ReadAt(p, off)
}
