package killloop

import (
	"errors"
	"fmt"
	"sync"
)

// maxErrors bounds what is kept of a group's errors: a thousand records may fail for one reason.
const maxErrors = 5

// group runs goroutines and keeps their errors. The zero value is ready; run must not be called
// after wait.
type group struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	first chan error
	errs  []error // at most maxErrors
	more  int     // errors beyond
}

// run starts do in a goroutine that wait waits for.
func (g *group) run(do func() error) {
	g.wg.Go(func() {
		err := do()
		if err == nil {
			return
		}
		g.mu.Lock()
		if len(g.errs) < maxErrors {
			g.errs = append(g.errs, err)
		} else {
			g.more++
		}
		g.mu.Unlock()
		select {
		case g.failed() <- err:
		default: // one is enough to end the run; wait returns them all
		}
	})
}

// failed delivers the first error as soon as there is one.
func (g *group) failed() chan error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.first == nil {
		g.first = make(chan error, 1) // the sender does not wait for us
	}
	return g.first
}

// wait returns when all goroutines have ended, with their errors.
func (g *group) wait() error {
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.more > 0 {
		return errors.Join(append(g.errs[:len(g.errs):len(g.errs)], fmt.Errorf("and %d more errors", g.more))...)
	}
	return errors.Join(g.errs...)
}
