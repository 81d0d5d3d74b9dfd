package ensemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/features"
	"go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/kalda-io/kalda/internal/meta"
	"github.com/kalda-io/kalda/internal/vfs"
)

const (
	// memberName is the only member's name. It is part of the member's identity on disk:
	// frozen.
	memberName = "kalda"
	// clusterToken makes member ids differ from those of other etcd clusters: frozen.
	clusterToken = "kalda"
	// peerURL is never listened on; etcd wants one on record, and a second member's
	// arrival replaces it.
	peerURL = "http://127.0.0.1:2380"

	tickMs        = 10 // heartbeat: one member, so only disk and scheduler delay it
	electionTicks = 10 // 100 ms

	// snapshotEntries is how many raft entries pass between snapshots, catchUpEntries how
	// many stay in memory after one. etcd's 10,000 and 5,000 serve slow followers over a
	// network; one member has none, and every entry is resident memory.
	snapshotEntries = 2000
	catchUpEntries  = 100

	quotaBytes = 4 << 30
	// smallWAL is the preallocated log segment for development and tests.
	smallWAL = 8 << 20
)

// walSize guards etcd's process-wide segment size: running servers read it without a
// lock, so it may be set once, before the first of them exists.
var walSize sync.Once

// embedded is an etcd server inside this process.
type embedded struct {
	server *etcdserver.EtcdServer
	lock   io.Closer
	past   *past // nil while it starts
	once   sync.Once
}

// lockFile keeps other processes out of the directory. etcd has locks of its own, but
// waits for them without end.
const lockFile = "lock"

// lockDir locks the directory of an ensemble, which it makes if there is none.
func lockDir(dir string) (io.Closer, error) {
	// 0700: etcd warns of anything wider.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("ensemble in %s: %w", dir, err)
	}
	lock, err := vfs.OS{}.Lock(filepath.Join(dir, lockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("the data in %s are in use by another kalda: stop it, or give this one a directory of its own: %w", dir, vfs.ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("ensemble in %s: %w", dir, err)
	}
	return lock, nil
}

// foundingFile is there while a new ensemble has never been ready. Nothing was promised
// to anybody then, and what a start that was cut off left is begun anew: etcd takes a log
// that lacks its first entries for one of a member that waits for others, for ever.
const foundingFile = "founding"

// beginFounding makes sure that the directory holds an ensemble that was ready once, or
// nothing but the mark.
func beginFounding(dir string) (founding bool, err error) {
	mark, member := filepath.Join(dir, foundingFile), filepath.Join(dir, "member")
	_, merr := os.Stat(member)
	_, err = os.Stat(mark)
	switch {
	case err == nil:
		if err := os.RemoveAll(member); err != nil {
			return false, err
		}
		return true, vfs.OS{}.SyncDir(dir)
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	case merr == nil:
		return false, nil
	case !errors.Is(merr, fs.ErrNotExist):
		return false, merr
	}
	f, err := os.Create(mark)
	if err != nil {
		return false, err
	}
	return true, errors.Join(f.Close(), vfs.OS{}.SyncDir(dir))
}

// endFounding removes the mark, durably: from now on what is written counts.
func endFounding(dir string) error {
	if err := os.Remove(filepath.Join(dir, foundingFile)); err != nil {
		return err
	}
	return vfs.OS{}.SyncDir(dir)
}

// openEmbedded builds the server from etcd's parts rather than through its package
// embed, which always opens listeners, and links the HTTP gateway besides.
func openEmbedded(ctx context.Context, opts Options) (_ *Ensemble, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ensemble in %s: start: %w", opts.Dir, err)
	}
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	walSize.Do(func() {
		if opts.SmallWAL {
			wal.SegmentSizeBytes = smallWAL
		}
	})
	founding, err := beginFounding(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("ensemble in %s: %w", opts.Dir, err)
	}
	u, err := url.Parse(peerURL)
	if err != nil {
		return nil, fmt.Errorf("ensemble: %w", err)
	}
	peers := types.URLs{*u}
	logger := zapLogger(opts.Log)
	if !founding {
		if err := checkData(opts.Dir, logger); err != nil {
			return nil, fmt.Errorf("ensemble in %s: %w", opts.Dir, err)
		}
	}
	server, err := newServer(config.ServerConfig{
		Name:                        memberName,
		DataDir:                     opts.Dir,
		PeerURLs:                    peers,
		InitialPeerURLsMap:          types.URLsMap{memberName: peers},
		InitialClusterToken:         clusterToken,
		NewCluster:                  true,
		TickMs:                      tickMs,
		ElectionTicks:               electionTicks,
		PreVote:                     true,
		SnapshotCount:               snapshotEntries,
		SnapshotCatchUpEntries:      catchUpEntries,
		MaxSnapFiles:                5,
		MaxWALFiles:                 5,
		QuotaBackendBytes:           quotaBytes,
		MaxTxnOps:                   meta.MaxTxnOps,
		MaxRequestBytes:             1536 << 10,
		StrictReconfigCheck:         true,
		WarningApplyDuration:        500 * time.Millisecond,
		DowngradeCheckTime:          5 * time.Second,
		CompactHashCheckTime:        time.Minute,
		BcryptCost:                  10, // etcd checks it although no user is ever added
		MaxLearners:                 membership.DefaultMaxLearners,
		V2Deprecation:               config.V2DeprDefault,
		ServerFeatureGate:           features.NewDefaultServerFeatureGate(memberName, logger),
		Metrics:                     "basic",
		Logger:                      logger,
		BootstrapTimeout:            time.Second,
		WarningUnaryRequestDuration: time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("ensemble in %s: %w", opts.Dir, err)
	}
	// No corruption check at the start: it compares members, and there is one.
	server.Start()
	e := &embedded{server: server, lock: lock}
	select {
	case <-server.ReadyNotify():
	case <-server.StopNotify():
		e.close()
		return nil, fmt.Errorf("ensemble in %s: the server ended while starting", opts.Dir)
	case <-ctx.Done():
		e.close()
		return nil, fmt.Errorf("ensemble in %s: start: %w", opts.Dir, ctx.Err())
	}
	if founding {
		if err := endFounding(opts.Dir); err != nil {
			e.close()
			return nil, fmt.Errorf("ensemble in %s: %w", opts.Dir, err)
		}
	}
	client := v3client.New(server)
	e.past = newPast(client, opts.Log)
	return &Ensemble{store: &store{client: client}, embedded: e}, nil
}

// newServer is etcdserver.NewServer with its panics (a data directory that cannot be
// read) as errors.
func newServer(cfg config.ServerConfig) (s *etcdserver.EtcdServer, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the data cannot be opened: %v", r)
		}
	}()
	return etcdserver.NewServer(cfg)
}

// close stops the server and lets others have the directory.
func (e *embedded) close() {
	e.once.Do(func() {
		if e.past != nil {
			e.past.stop()
		}
		e.server.Stop()
		_ = e.lock.Close() // nothing was written through it
	})
}
