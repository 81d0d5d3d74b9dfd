package vfs

// Extender is implemented by files that are cheaper to write where they were extended
// before: their blocks are taken in one go, and pages that are written whole come in larger
// pieces than those that a write ends in.
type Extender interface {
	// Extend makes the file, which ends at from, end at to. What is new reads as zeros and
	// has room on the volume, so that writing it meets no full disk. After an error, NoSpace
	// for one, the file may end anywhere in between. errors.ErrUnsupported where room cannot
	// be taken without writing.
	Extend(from, to int64) error
	// WriteZeroed is WriteAt with zeros written behind p, up to end. n counts bytes of p, and
	// only they matter to err: zeros may be missing where the file was extended before.
	WriteZeroed(p []byte, off, end int64) (n int, err error)
}
