package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/storage"
)

// checkDirs compares the log directories with what the ensemble remembers of them, before
// a log is opened or begun. A directory that is gone, or is there in an older state than
// the ensemble has seen, would be taken for all there is: its partitions would begin anew,
// or go on from where a backup ended, and hand out offsets a second time. That is refused
// unless the operator accepts it by the directory's id.
func (b *Broker) checkDirs(ctx context.Context) error {
	known, err := b.knownDirs(ctx)
	if err != nil {
		return err
	}
	accepted := b.opts.Load().LostDirsAccept
	var problems []error
	lost := false
	for _, k := range known.Dirs {
		d := b.dirByID(k.ID)
		accept := slices.Contains(accepted, k.ID)
		switch {
		case d == nil && b.isDead(k.Path):
			// Its disk failed; nobody knows what it would say.
		case d == nil && accept:
			lost = true
			b.log.Warn("a log directory is gone, as accepted by kalda.lost.dirs.accept: the records in it are lost", "path", k.Path, "id", k.ID)
		case d == nil:
			problems = append(problems, b.lostError(k))
		case !d.RunLost() && d.RunMeta().BrokerEpoch < k.Epoch && accept:
			d.Distrust()
			b.log.Warn("a log directory is in an older state, as accepted by kalda.lost.dirs.accept: the records since then are lost", "path", d.Path(), "id", k.ID)
		case !d.RunLost() && d.RunMeta().BrokerEpoch < k.Epoch:
			problems = append(problems, fmt.Errorf("log directory %s is in an older state of its own: it was last used in registration %d of broker %d, the ensemble knows it in registration %d. "+
				"A backup was put back, or a copy is mounted. Put the newest state there, or start once with kalda.lost.dirs.accept=%s to go on without the records since then",
				d.Path(), d.RunMeta().BrokerEpoch, b.id, k.Epoch, k.ID))
		case d.RunLost():
			b.log.Warn("a log directory does not know its former lives any more: its logs are checked from the last checkpoint on, and not trusted beyond",
				"dir", d.Path(), "id", k.ID)
		}
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	for _, d := range b.dirs {
		if lost && !slices.ContainsFunc(known.Dirs, func(k meta.BrokerDir) bool { return k.ID == d.ID() }) {
			d.Distrust() // it stands in for one that had records
		}
	}
	return nil
}

func (b *Broker) lostError(k meta.BrokerDir) error {
	what := fmt.Sprintf("log directory %s is not among log.dirs any more", k.Path)
	for _, d := range b.dirs {
		if d.Path() == k.Path {
			what = fmt.Sprintf("log directory %s was emptied or replaced, or its volume is not mounted: another directory (%s) is there now", k.Path, d.ID())
		}
	}
	return fmt.Errorf("%s, and broker %d kept records in it as directory %s. Bring it back, "+
		"or start once with kalda.lost.dirs.accept=%s to go on without its records", what, b.id, k.ID, k.ID)
}

func (b *Broker) dirByID(id string) *storage.Dir {
	for _, d := range b.dirs {
		if d.ID() == id {
			return d
		}
	}
	return nil
}

func (b *Broker) isDead(path string) bool {
	for _, d := range b.dead {
		if d.Path == path {
			return true
		}
	}
	return false
}

// knownDirs is what the ensemble remembers of the broker's directories; nothing before its
// first registration.
func (b *Broker) knownDirs(ctx context.Context) (meta.BrokerDirs, error) {
	var known meta.BrokerDirs
	key := b.o.Meta.Keys.BrokerDirs(b.id)
	kv, _, err := b.o.Meta.Store.Get(ctx, key)
	if err != nil || !kv.Exists() {
		return known, err
	}
	if _, err := meta.DecodeValue(kv.Value, &known); err != nil {
		return known, fmt.Errorf("key %s: %w", key, err)
	}
	return known, nil
}

// recordDirs tells the ensemble which directories know of the registration: those in which
// it was recorded, durably, before. What is known of directories whose disks failed stays.
func (b *Broker) recordDirs(ctx context.Context, epoch model.BrokerEpoch) error {
	known, err := b.knownDirs(ctx)
	if err != nil {
		return err
	}
	next := meta.BrokerDirs{}
	for _, d := range b.dirs {
		e := d.RunMeta().BrokerEpoch
		if e == epoch {
			next.Dirs = append(next.Dirs, meta.BrokerDir{ID: d.ID(), Path: d.Path(), Epoch: e})
		}
	}
	for _, k := range known.Dirs {
		if d := b.dirByID(k.ID); d == nil && b.isDead(k.Path) || d != nil && d.RunMeta().BrokerEpoch != epoch {
			next.Dirs = append(next.Dirs, k)
		}
	}
	_, err = b.o.Meta.Store.Txn(ctx, meta.Txn{Then: []meta.Op{meta.Put(b.o.Meta.Keys.BrokerDirs(b.id), meta.EncodeValue(next, nil))}})
	return err
}

// recordDirsWait bounds what a new registration of a running broker waits for the ensemble.
const recordDirsWait = 2 * time.Second
