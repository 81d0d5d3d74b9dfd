//go:build !linux

package volume

import "errors"

// Fill takes room until about leave bytes are free.
func (v *Volume) Fill(int64) error { return errors.ErrUnsupported }

// Drain gives back what Fill took.
func (v *Volume) Drain() error { return errors.ErrUnsupported }
