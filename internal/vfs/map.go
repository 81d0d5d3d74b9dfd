package vfs

import "io"

// Mapper is implemented by files that can be written through memory: for many small
// writes that costs far less than a system call each.
type Mapper interface {
	// Map gives access to the n bytes of the file from off on. All of them must be in the
	// file, must have been written or extended (Extender; not merely truncated to, or a full
	// disk would show as a fault) and stay in it until Close: whoever cuts the file closes its mappings first.
	// errors.ErrUnsupported where a mapping would not keep the promises of File.
	Map(off int64, n int) (Mapping, error)
}

// Mapping is a stretch of a file in memory. What is written is as safe as after
// File.WriteAt: it survives the process at once, and a power cut after File.Datasync or
// Sync. Not safe for concurrent use.
type Mapping interface {
	// WriteAt writes p at off, a position in the file; all of p must lie in the mapping.
	// Bytes that the file lost (somebody cut it, the disk failed) are an error.
	io.WriterAt
	// Close gives the mapping up. The file stays open.
	Close() error
}
