package server

import (
	"testing"
	"testing/synctest"

	"github.com/kalda-io/kalda/internal/wire"
)

// promising parks each request after it took memory for its answer, or refuses it then.
type promising struct {
	*scripted
	outcome wire.Outcome
}

func (h *promising) Handle(p *wire.Pending) wire.Outcome {
	if err := p.ReserveAnswer(300 << 10); err != nil {
		p.CloseReason = err.Error()
		return wire.CloseConn
	}
	return h.outcome
}

// What was taken for an answer comes back when the connection ends before there is one.
func TestReservedAnswersEndWithTheConnection(t *testing.T) {
	for name, outcome := range map[string]wire.Outcome{"parked": wire.Parked, "refused": wire.CloseConn} {
		t.Run(name, func(t *testing.T) {
			out := NewOutputBudget(1 << 20)
			h := &promising{newScripted(), outcome}
			pressed(t, Options{Handler: h, Answers: out}, 4<<10, func(r *rig) {
				c := r.dial()
				_, _ = c.Write(request("metadata", 1, "x"))
				synctest.Wait()
				if _, held := out.Stats(); outcome == wire.Parked && held != 236<<10 {
					t.Errorf("%d bytes held while the request is parked", held)
				}
				c.Close()
				synctest.Wait()
				if _, held := out.Stats(); held != 0 {
					t.Errorf("%d bytes held in the end", held)
				}
			})
		})
	}
}
