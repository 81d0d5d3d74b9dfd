//go:build amd64 || arm64

package vfs

// prefetch asks the processor to bring the n bytes at p into its cache; p and n are those of
// memory that is mapped. It returns at once, and never faults.
//
//go:noescape
func prefetch(p *byte, n int)
