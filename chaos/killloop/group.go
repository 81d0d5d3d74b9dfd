package killloop

import (
	"errors"
	"sync"
)

// group runs goroutines and keeps their errors. The zero value is ready; run must not be called
// after wait.
type group struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	first chan error
	errs  []error
}

// run starts do in a goroutine that wait waits for.
func (g *group) run(do func() error) {
	g.wg.Go(func() {
		err := do()
		if err == nil {
			return
		}
		g.mu.Lock()
		g.errs = append(g.errs, err)
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

// wait returns when all goroutines have ended, with all their errors.
func (g *group) wait() error {
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.errs...)
}
