package cli

import (
	"fmt"
	"sync"
	"time"
)

// progressAfter is how long work may take before it shows progress, and progressEvery
// how often the line changes then.
const (
	progressAfter = time.Second
	progressEvery = 200 * time.Millisecond
)

// progress shows one changing line on stderr while something takes long. On anything but
// a terminal it shows nothing.
type progress struct {
	done chan struct{}
	wg   sync.WaitGroup
}

// progress starts showing what line returns; the caller must call stop.
func (a *app) progress(line func() string) *progress {
	p := &progress{done: make(chan struct{})}
	if !a.StderrTTY {
		return p
	}
	p.wg.Go(func() {
		wait := time.NewTimer(progressAfter)
		defer wait.Stop()
		shown := false
		for {
			select {
			case <-p.done:
				if shown {
					fmt.Fprint(a.Stderr, "\r\x1b[K")
				}
				return
			case <-wait.C:
				shown = true
				fmt.Fprintf(a.Stderr, "\r\x1b[K%s", line())
				wait.Reset(progressEvery)
			}
		}
	})
	return p
}

// stop clears the line and waits for the goroutine.
func (p *progress) stop() {
	close(p.done)
	p.wg.Wait()
}
