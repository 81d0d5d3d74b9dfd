//go:build !linux

package load

import "errors"

// loops is false where there is no loop: every connection has a goroutine then.
func loops(*Options, int) bool { return false }

func runLoop([]*connection, *budget, []tally) error { return errors.ErrUnsupported }
