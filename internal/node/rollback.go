package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kalda-io/kalda/internal/storage"
)

// seenInterval is how often the broker records how far it has followed the ensemble.
const seenInterval = 5 * time.Second

// errRolledBack says that the ensemble is older than what this broker has worked from.
var errRolledBack = errors.New("METADATA_ROLLED_BACK")

// checkRollback refuses an ensemble that is behind what the broker's directories have
// seen: topics that it does not know, or knows again, would be taken for the truth.
func (b *Broker) checkRollback() error {
	head := b.o.Meta.Publisher.Image().Revision
	for _, d := range b.dirs {
		s, err := d.Seen()
		var damaged *storage.CorruptError
		switch {
		case errors.As(err, &damaged):
			// It only guards against a rare mistake; the next seconds write it anew.
			b.log.Error("a log directory does not know any more which metadata it has worked with: a rolled back ensemble would not be noticed now", "err", err)
		case err != nil:
			return err
		case s.Generation == "":
		case s.Generation != b.o.Meta.Identity.Generation:
			return fmt.Errorf("%w: %s has worked with metadata generation %s, the ensemble is of generation %s: it was replaced or restored from a backup",
				errRolledBack, d.Path(), s.Generation, b.o.Meta.Identity.Generation)
		case s.Revision > head:
			return fmt.Errorf("%w: %s has seen revision %d of the metadata, the ensemble is at %d: it was restored from a backup, or lost its disk",
				errRolledBack, d.Path(), s.Revision, head)
		}
	}
	return nil
}

// rememberRevision records the applied revision until ctx ends.
func (b *Broker) rememberRevision(ctx context.Context) error {
	t := time.NewTicker(seenInterval)
	defer t.Stop()
	var last int64
	for {
		select {
		case <-ctx.Done():
			return b.remember(last)
		case <-t.C:
			if err := b.remember(last); err != nil {
				b.log.Error("the metadata revision cannot be recorded", "err", err)
				continue
			}
			last = b.o.Meta.Publisher.Image().Revision
		}
	}
}

// remember records the present revision if it is newer than last.
func (b *Broker) remember(last int64) error {
	rev := b.o.Meta.Publisher.Image().Revision
	if rev <= last {
		return nil
	}
	for _, d := range b.dirs {
		if err := d.SetSeen(storage.Seen{Generation: b.o.Meta.Identity.Generation, Revision: rev}); err != nil {
			return err
		}
	}
	return nil
}
