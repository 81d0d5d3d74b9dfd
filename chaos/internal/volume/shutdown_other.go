//go:build !linux

package volume

import "errors"

const (
	logFlush   = 1
	noLogFlush = 2
)

func shutdown(string, uint32) error {
	return errors.New("only Linux can shut a file system down")
}
