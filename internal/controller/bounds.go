package controller

import (
	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/kerr"
)

// quota is how many partitions one request may still create.
type quota struct {
	p *Planner
	// taken by the request, have before it in topics that live or are being created.
	taken, have int
}

func (p *Planner) newQuota() *quota {
	q := &quota{p: p}
	for _, r := range p.st.Topics {
		if r.Status != meta.TopicDeleting {
			q.have += int(r.Partitions)
		}
	}
	for _, op := range p.st.Ops {
		if p.st.Topics[op.ID] == nil {
			q.have += int(op.Topic.Partitions)
		}
	}
	return q
}

// take reserves n partitions, or says which bound is in the way.
func (q *quota) take(n int) error {
	switch {
	case q.taken+n > maxRequestPartitions:
		return kerr.With(kerr.PolicyViolation, "one request may create %d partitions; send several", maxRequestPartitions)
	case q.have+q.taken+n > int(q.p.rules.MaxPartitions):
		return kerr.With(kerr.PolicyViolation, "there are %d partitions, and kalda.partitions.max=%d bounds them", q.have+q.taken, q.p.rules.MaxPartitions)
	}
	q.taken += n
	return nil
}

// checkConfigSize refuses configurations that would not fit a value of the ensemble.
func checkConfigSize(config map[string]string) error {
	n := 0
	for k, v := range config {
		n += len(k) + len(v)
	}
	if n > maxConfigBytes {
		return kerr.With(kerr.InvalidConfig, "the configuration takes %d bytes; %d are possible", n, maxConfigBytes)
	}
	return nil
}
