package server

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/kalda-io/kalda/internal/model"
)

// ConnOptions are the limits on connections. A count or rate below 0 is no limit.
type ConnOptions struct {
	// Max bounds the open connections of all listeners, MaxListener those of one. Further
	// ones wait, accepted by the system but not served, until one ends.
	Max         int
	MaxListener map[string]int
	// MaxKey is what the log calls Max; default max.connections.
	MaxKey string
	// PerIP bounds the open connections of one address, and Overrides does so for single
	// ones. Further ones are closed.
	PerIP     int
	Overrides map[string]int
	// Rate bounds the new connections per second on all listeners, RateListener those on
	// one. One second's worth may come at once; further ones wait.
	Rate         int
	RateListener map[string]int
}

// ConnLimits counts the connections of the servers that share it and keeps them within
// limits, which may change at any time.
type ConnLimits struct {
	clock model.Clock

	mu        sync.Mutex
	o         ConnOptions
	total     int
	perIP     map[string]int
	listeners map[string]*listenerConns
	rate      pace
	changed   chan struct{} // closed when a connection ended or the limits changed; nil if nobody waits
}

// listenerConns are the connections of one listener.
type listenerConns struct {
	open int
	rate pace
}

// pace spreads events over time. next is when the next one is due.
type pace struct{ next time.Duration }

// NewConnLimits returns limits that limit nothing.
func NewConnLimits(clock model.Clock) *ConnLimits {
	if clock.Boot == nil {
		clock = model.SystemClock()
	}
	return &ConnLimits{
		clock: clock, perIP: map[string]int{}, listeners: map[string]*listenerConns{},
		o: ConnOptions{Max: -1, PerIP: -1, Rate: -1},
	}
}

// Set changes the limits. Connections that are open stay open.
func (l *ConnLimits) Set(o ConnOptions) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.Rate != l.o.Rate {
		l.rate = pace{}
	}
	for name, c := range l.listeners {
		if rateOf(o.RateListener, name) != rateOf(l.o.RateListener, name) {
			c.rate = pace{}
		}
	}
	l.o = o
	l.signalLocked()
}

// Open returns how many connections are open.
func (l *ConnLimits) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func rateOf(m map[string]int, name string) int {
	if n, ok := m[name]; ok {
		return n
	}
	return -1
}

// acquire counts a connection in, or says why it is closed: its address has too many, or
// ctx ended while it waited. waits is called when it has to wait for another reason than
// before, with the text for the log.
func (l *ConnLimits) acquire(ctx context.Context, listener, source string, waits func(limit string)) (why *closing, delayed bool) {
	last := ""
	for {
		l.mu.Lock()
		if why := l.perIPLocked(source); why != nil {
			l.mu.Unlock()
			return why, delayed
		}
		limit, wait := l.fullLocked(listener)
		if limit == "" {
			l.takeLocked(listener, source)
			l.mu.Unlock()
			return nil, delayed
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		delayed = true
		if limit != last {
			waits(limit)
			last = limit
		}
		var due <-chan time.Time
		if wait >= 0 {
			due = time.After(wait)
		}
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
			return &closing{reason: CloseShutdown}, delayed
		}
	}
}

// perIPLocked says whether an address has all connections that it may have.
func (l *ConnLimits) perIPLocked(source string) *closing {
	most, ok := l.o.Overrides[source]
	key := "max.connections.per.ip.overrides"
	if !ok {
		most, key = l.o.PerIP, "max.connections.per.ip"
	}
	if most < 0 || l.perIP[source] < most {
		return nil
	}
	return &closing{CloseLimit, fmt.Sprintf("%s=%d reached by %s", key, most, source)}
}

// fullLocked says which limit holds up a connection, "" if none does, and for how long:
// below 0 until something changes.
func (l *ConnLimits) fullLocked(listener string) (limit string, wait time.Duration) {
	c := l.listenerLocked(listener)
	if l.o.Max >= 0 && l.total >= l.o.Max {
		key := l.o.MaxKey
		if key == "" {
			key = "max.connections"
		}
		return fmt.Sprintf("%s=%d reached", key, l.o.Max), -1
	}
	if most, ok := l.o.MaxListener[listener]; ok && most >= 0 && c.open >= most {
		return fmt.Sprintf("max.connections=%d of listener %s reached", most, listener), -1
	}
	now := l.clock.Boot()
	if w := l.rate.wait(now, l.o.Rate); w != 0 {
		return fmt.Sprintf("more than max.connection.creation.rate=%d per second", l.o.Rate), w
	}
	if r := rateOf(l.o.RateListener, listener); r >= 0 {
		if w := c.rate.wait(now, r); w != 0 {
			return fmt.Sprintf("more than max.connection.creation.rate=%d per second of listener %s", r, listener), w
		}
	}
	return "", 0
}

func (l *ConnLimits) takeLocked(listener, source string) {
	c := l.listenerLocked(listener)
	now := l.clock.Boot()
	l.total++
	l.perIP[source]++
	c.open++
	l.rate.take(now, l.o.Rate)
	c.rate.take(now, rateOf(l.o.RateListener, listener))
}

func (l *ConnLimits) listenerLocked(name string) *listenerConns {
	c := l.listeners[name]
	if c == nil {
		c = &listenerConns{}
		l.listeners[name] = c
	}
	return c
}

// release counts a connection out.
func (l *ConnLimits) release(listener, source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	l.listenerLocked(listener).open--
	if n := l.perIP[source]; n > 1 {
		l.perIP[source] = n - 1
	} else {
		delete(l.perIP, source)
	}
	l.signalLocked()
}

func (l *ConnLimits) signalLocked() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// wait is how long until the next event may happen at so many per second; below 0 never.
func (p *pace) wait(now time.Duration, rate int) time.Duration {
	switch {
	case rate < 0 || rate == math.MaxInt32:
		return 0
	case rate == 0:
		return -1
	}
	return max(p.next-now, 0)
}

// take notes an event. Up to a second's worth is saved up.
func (p *pace) take(now time.Duration, rate int) {
	if rate <= 0 || rate == math.MaxInt32 {
		return
	}
	each := time.Second / time.Duration(rate)
	p.next = max(p.next, now-time.Second+each) + each
}
