package wire

import (
	"net"
	"time"
)

// Conn is what a handler may know of the connection that a request came on. The
// server creates it; one Conn lives as long as its connection.
type Conn struct {
	// ID is unique within the process; it appears in logs.
	ID uint64
	// Local is the address that the client reached, Remote the client's own.
	Local, Remote net.Addr
	// Listener is the name of the listener, for example PLAINTEXT.
	Listener string
	// ClientID is the client id of the latest request, interned by the server.
	ClientID string
	// SoftwareName and SoftwareVersion are set by the ApiVersions handler (v3 and
	// later); empty until then. Only the connection's reader goroutine touches them.
	SoftwareName, SoftwareVersion string
	// State belongs to the handler (fetch buffers, partitions touched by this drain).
	// Only the connection's reader goroutine touches it.
	State any
	// CloseReason, set by Flush, closes the connection once earlier answers are sent; the
	// log has it.
	CloseReason string
}

// Outcome says what became of a request that a Handler was given.
type Outcome uint8

const (
	// Done: Resp holds the whole answer.
	Done Outcome = iota
	// Parked: the answer comes later; the handler (or a room it called) calls
	// Complete exactly once, from any goroutine, possibly before Handle returned.
	Parked
	// NoAnswer: the request gets no answer (Produce with acks=0).
	NoAnswer
	// CloseConn: earlier answers are sent, then the connection is closed. Reason is in
	// Pending.CloseReason.
	CloseConn
)

// Handler serves requests; package broker implements it, package server calls it.
type Handler interface {
	// Handle runs one request on the connection's reader goroutine. Requests of one
	// connection never run at the same time. p.Body is valid only until Handle returns.
	Handle(p *Pending) Outcome
	// Flush ends a drain: whatever Handle calls on this connection left staged (record
	// batches copied to a partition but not written) is written. The server calls it
	// after the last request of each drain, and before it starts a request that is not a
	// Produce if Produce requests ran since the last Flush.
	Flush(c *Conn)
	// Cancel tells that the connection of a parked request is gone. The handler may
	// still call Complete afterwards; the answer is dropped.
	Cancel(p *Pending)
	// Closed tells that the connection ended, after every Cancel.
	Closed(c *Conn)
}

// AtOnce is a Handler that answers some Produce requests without a Pending: those whose
// answers are there as soon as their batches are written. They take no place in the
// connection's queue, and all of a drain share its memory.
//
//	Take, Take, Take ... Answer -> one write
type AtOnce interface {
	Handler
	// Take takes a Produce request, or returns false and leaves it, as it was, to Handle. It
	// runs on the connection's reader goroutine, and only while no earlier request of the
	// connection waits for its answer. body stays valid until Answer and may be changed.
	Take(c *Conn, hd *Header, body []byte) bool
	// Answer writes what was taken since the last call, and appends the answers, whole
	// frames in the order of their requests, to out.
	Answer(c *Conn, out []byte) []byte
}

// Encoder writes an answer's body at the moment of sending.
type Encoder interface {
	// EncodeAnswer appends the body to p.Resp. It runs on the goroutine that sends,
	// when all earlier requests of the connection have their answers, after Complete.
	EncodeAnswer(p *Pending)
}

// Stream gives the bytes of an answer that are sent from where they lie instead of being
// put into Pending.Resp.
type Stream interface {
	// ReadStream fills b with the bytes of Pending.Parts[part] from off on. It runs on the
	// goroutine that sends. After an error the connection is closed, with the error as
	// the reason: the answer has begun.
	ReadStream(part int, b []byte, off int64) error
	// EndStream tells, once, that the answer was sent or will not be.
	EndStream()
}

// Part is a stretch of an answer whose bytes Pending.Stream gives.
type Part struct {
	// At is where it belongs: behind Resp[:At]. Parts lie in the order of At.
	At int
	// Len is the number of its bytes.
	Len int
}

// Pending is one request in the ordered queue of its connection, and its answer.
// The server owns it and uses it again for a later request of the same connection
// once the answer is sent, so nothing may keep a pointer to it after that.
//
// Life of a Pending:
//
//	server fills header and Body -> Handle -> Done ------------------------> sent in order
//	                                      \-> Parked ... Complete [Encode] -> sent in order
type Pending struct {
	// Conn is the connection; never nil.
	Conn *Conn
	// Key and Version are the API key and version of the header.
	Key, Version int16
	// CorrelationID is echoed in the answer's header by the server.
	CorrelationID int32
	// ClientID is the header's client id; "" for null.
	ClientID string
	// Arrived is Clock.Boot at the start of the drain that holds the request.
	Arrived time.Duration
	// Body is the request after its header. It aliases the read buffer.
	Body []byte
	// Resp is the answer's frame. The server puts size and header there before Handle;
	// the handler (or Encode) appends the body.
	Resp []byte
	// Parts and Stream are what the answer holds beside Resp; whoever appends the body sets
	// them. Parts is empty if Stream is nil. Such an answer takes a bounded piece of memory
	// while it is sent, however long it is.
	Parts  []Part
	Stream Stream
	// Encode, when set before Complete, appends the body at the moment of sending. Whoever
	// calls Complete may set it; nobody else does after Handle began.
	Encode Encoder
	// CloseReason is logged when Handle answers CloseConn, or when Complete is called
	// with CloseReason set (then the connection closes instead of answering).
	CloseReason string
	// State belongs to the handler for the life of the request; nil at Handle.
	State any
	// Kept belongs to the handler, too, and stays for the later requests that this Pending
	// serves: memory that is used again without a pool.
	Kept any

	queue Queue
}

// Queue is the ordered queue of one connection, as a Pending sees it.
type Queue interface {
	// Ready marks p complete and signals whoever sends. It never blocks on a socket.
	Ready(p *Pending)
}

// Bind ties p to the queue that Complete will tell. Only the server calls it.
func (p *Pending) Bind(q Queue) { p.queue = q }

// Complete marks a parked request as answerable. Exactly one call per parked
// request; safe from any goroutine, with locks held.
func (p *Pending) Complete() { p.queue.Ready(p) }

// Memory is implemented by a Queue that keeps account of memory.
type Memory interface {
	// Reserve waits until bytes of memory may be taken for the decoded form of p; they are
	// given back when the answer is encoded. An error means that the connection is over.
	Reserve(p *Pending, bytes int) error
	// Release gives back what Reserve took.
	Release(p *Pending)
	// ReserveAnswer waits until the answer of p may take about so many bytes. An error means
	// that the connection is over.
	ReserveAnswer(p *Pending, bytes int) error
}

// Reserve waits until the decoded form of the request may take so many bytes. Only Handle
// may call it. After an error the request must be answered with CloseConn.
func (p *Pending) Reserve(bytes int) error {
	if m, ok := p.queue.(Memory); ok {
		return m.Reserve(p, bytes)
	}
	return nil
}

// Release gives back what Reserve took. A handler that parks a request and keeps nothing of
// it, or accounts for what it keeps elsewhere, calls it before Handle returns.
func (p *Pending) Release() {
	if m, ok := p.queue.(Memory); ok {
		m.Release(p)
	}
}

// ReserveAnswer waits until the answer may take about so many bytes, with what it is made
// of; they are held until it is encoded, and then what it has become until it is sent. It
// is for answers that cannot be made smaller. Only Handle may call it, once. After an
// error the request must be answered with CloseConn.
func (p *Pending) ReserveAnswer(bytes int) error {
	if m, ok := p.queue.(Memory); ok {
		return m.ReserveAnswer(p, bytes)
	}
	return nil
}
