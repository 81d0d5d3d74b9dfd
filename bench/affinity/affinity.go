// Package affinity keeps the broker under test and the load generator on processors of
// their own, so that the rate is that of the broker and not of how the kernel lets the
// two share.
package affinity

import "fmt"

// Split divides the processors that this process may use: the last is the generator's,
// which is one thread, the others are the broker's. It fails where there is only one, or
// where processors cannot be chosen (not Linux).
func Split() (broker, generator []int, err error) {
	all, err := allowed()
	if err != nil {
		return nil, nil, err
	}
	if len(all) < 2 {
		return nil, nil, fmt.Errorf("broker and generator apart need two processors, there is %d", len(all))
	}
	last := len(all) - 1
	return all[:last], all[last:], nil
}

// Do runs f on a thread that keeps to those processors, as do processes that f starts; nil
// means any. Goroutines that f starts are not bound.
func Do(processors []int, f func() error) error {
	if processors == nil {
		return f()
	}
	return do(processors, f)
}
