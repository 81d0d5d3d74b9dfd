package meta

import (
	"context"
	"errors"
	"time"
)

// MaxTxnOps is the most compares or operations that one Txn may hold (etcd's default
// limit; etcd counts the larger of the two).
const MaxTxnOps = 128

// The errors of a Store. All are matched with errors.Is.
var (
	// ErrUnknownOutcome: the Txn was sent and no answer came. It may have been applied,
	// may be applied later, or never. The caller reads the keys again and decides by
	// what it finds; sending the same Txn again blindly is a mistake.
	ErrUnknownOutcome = errors.New("meta: the outcome of the transaction is not known")
	// ErrCompacted: the revision asked for is no longer kept.
	ErrCompacted = errors.New("meta: the revision has been compacted")
	// ErrWatchLost: the watch ended for another reason than compaction; events may be
	// missing, so the caller loads a snapshot again.
	ErrWatchLost = errors.New("meta: the watch was lost")
	// ErrLeaseNotFound: the lease has expired or was revoked.
	ErrLeaseNotFound = errors.New("meta: the lease does not exist")
	// ErrInvalidTxn: the Txn has too many operations or writes one key twice. Nothing
	// was written.
	ErrInvalidTxn = errors.New("meta: the transaction is not valid")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("meta: the store is closed")
)

// LeaseID names a lease; 0 is none.
type LeaseID int64

// KV is one key at one revision.
type KV struct {
	Key   string
	Value []byte
	// CreateRevision is the revision that created the key in its present life; 0 means
	// that the key does not exist.
	CreateRevision int64
	// ModRevision is the revision of the latest write; for a deletion event, that of
	// the deletion.
	ModRevision int64
	// Lease is the lease that the key dies with, 0 for none.
	Lease LeaseID
}

// Exists says whether the key exists.
func (kv KV) Exists() bool { return kv.CreateRevision != 0 }

// Event is one change of one key.
type Event struct {
	KV
	// Deleted says that the key is gone; Value and CreateRevision are then zero.
	Deleted bool
}

// Revision is everything that one transaction changed under a watched prefix.
type Revision struct {
	Revision int64
	Events   []Event
}

// CompareTarget is the side of a key that a Compare looks at.
type CompareTarget uint8

const (
	// CompareCreate compares CreateRevision; 0 means that the key must not exist.
	CompareCreate CompareTarget = iota
	// CompareMod compares ModRevision; 0 means that the key must not exist.
	CompareMod
)

// Compare is a condition of a Txn: the key's revision equals Revision.
type Compare struct {
	Key      string
	Target   CompareTarget
	Revision int64
}

// Op is one write of a Txn.
type Op struct {
	Key string
	// Value is written, unless Delete is set.
	Value []byte
	// Lease, if not 0, is attached to the key; a Put without a lease detaches it.
	Lease  LeaseID
	Delete bool
}

// Put returns an Op that writes a key without a lease.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// Delete returns an Op that deletes a key; deleting an absent key changes nothing.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Txn is applied whole, at one revision, if every condition holds; else not at all.
type Txn struct {
	If   []Compare
	Then []Op
}

// TxnResult says what became of a Txn.
type TxnResult struct {
	// Applied says that all conditions held and Then was carried out.
	Applied bool
	// Revision is the store's revision after the Txn.
	Revision int64
	// Current, when not Applied, holds the keys of If in that order as they were when
	// the conditions were tested.
	Current []KV
}

// Page is one part of a range.
type Page struct {
	KVs []KV
	// Revision is the revision that the page was read at.
	Revision int64
	// More says that keys follow after the last of KVs.
	More bool
}

// Store is the seam between kalda and the ensemble: an ordered map of keys with one
// revision for all, transactions that compare revisions, watches and leases. Reads are
// linearizable. The memory store and the etcd store pass the suite in storetest.
type Store interface {
	// Get reads one key (Exists is false when it is absent) and the store's revision.
	Get(ctx context.Context, key string) (KV, int64, error)
	// Range reads at most limit keys with the prefix that sort behind after ("" starts at
	// the beginning), in order. revision 0 is the present; later pages pass the Revision of the
	// first. ErrCompacted when that revision is gone.
	Range(ctx context.Context, prefix, after string, limit int, revision int64) (Page, error)
	// Txn applies a transaction. An error that is ErrUnknownOutcome leaves open whether it was applied; any
	// other error means that it was not.
	Txn(ctx context.Context, txn Txn) (TxnResult, error)
	// Watch follows the keys with the prefix from a revision on, inclusive.
	Watch(ctx context.Context, prefix string, from int64) (Watcher, error)
	// Grant makes a lease that dies unless it is kept alive within ttl (whole seconds,
	// rounded up, at least 1 s).
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, error)
	// KeepAlive renews a lease once; ErrLeaseNotFound when it is gone.
	KeepAlive(ctx context.Context, id LeaseID) error
	// Revoke ends a lease and deletes its keys in one revision. Revoking a lease that is
	// gone is not an error.
	Revoke(ctx context.Context, id LeaseID) error
}

// Watcher delivers changes in the order of revisions, each revision whole. It is used by one
// goroutine.
type Watcher interface {
	// Next waits for changes and returns all that are ready: at least one revision.
	// ErrCompacted and ErrWatchLost end the watch; ctx ends only the call.
	Next(ctx context.Context) ([]Revision, error)
	// Close ends the watch and frees what it holds.
	Close()
}
