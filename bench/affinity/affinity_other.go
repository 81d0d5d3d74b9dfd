//go:build !linux

package affinity

import "errors"

func allowed() ([]int, error) { return nil, errors.ErrUnsupported }

func do([]int, func() error) error { return errors.ErrUnsupported }
