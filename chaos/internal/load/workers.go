package load

import (
	"errors"
	"fmt"
	"sync"
)

// maxErrors bounds what is kept of the workers' errors: a thousand records may fail for one reason.
const maxErrors = 5

// Workers runs goroutines and keeps their errors. The zero value is ready; Run must not be called
// after Wait.
type Workers struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	first chan error
	errs  []error // at most maxErrors
	more  int     // errors beyond
}

// Run starts do in a goroutine that Wait waits for.
func (w *Workers) Run(do func() error) {
	w.wg.Go(func() {
		err := do()
		if err == nil {
			return
		}
		w.mu.Lock()
		if len(w.errs) < maxErrors {
			w.errs = append(w.errs, err)
		} else {
			w.more++
		}
		w.mu.Unlock()
		select {
		case w.Failed() <- err:
		default: // one is enough to end the run; Wait returns them all
		}
	})
}

// Failed delivers the first error as soon as there is one.
func (w *Workers) Failed() chan error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		w.first = make(chan error, 1) // the sender does not wait for us
	}
	return w.first
}

// Wait returns when all goroutines have ended, with their errors.
func (w *Workers) Wait() error {
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.more > 0 {
		return errors.Join(append(w.errs[:len(w.errs):len(w.errs)], fmt.Errorf("and %d more errors", w.more))...)
	}
	return errors.Join(w.errs...)
}
