package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/kerr"
)

func (a *app) consumeCommand() *cobra.Command {
	var place, partitions, format string
	r := &consumeRun{app: a}
	cmd := &cobra.Command{
		Use:   "consume TOPIC...",
		Short: "Print the records of topics",
		Long: `Print the records of topics. Without -g it reads by itself, from the end unless -o says
otherwise. With -g it is a member of the group: it reads the partitions that the group
gives it, from the group's committed offsets (-o counts only where there is none), and
commits what it printed, at an interval and when it ends.

  kalda consume hello -o start -n 10
  kalda consume hello -o @-15m -f '%t-%p@%o %k: %v\n'
  kalda consume orders payments -g billing

Formats of -f: ` + formatVerbs + `, and \n \t \r \0 \\ \xHH.`,
		Args: wantArgs(true, "TOPIC"),
	}
	f := cmd.Flags()
	f.StringVarP(&r.spec.group, "group", "g", "", "read as a member of `GROUP`")
	f.StringVarP(&partitions, "partitions", "p", "", "read these `PARTITIONS` only (0,2,5-7); not with -g")
	f.StringVarP(&place, "offset", "o", "", "`PLACE` to begin at: start, end, an offset N, -N before the end, or @TIME (default end; with -e start)")
	f.Int64VarP(&r.count, "count", "n", 0, "stop after `N` records")
	f.StringVarP(&format, "format", "f", "", "`FORMAT` of a record (default '%v\\n')")
	f.BoolVarP(&r.spec.toEnd, "exit", "e", false, "stop at the end, as it is now")
	out := &choice{value: outText, of: []string{outText, outWide, outJSON, outYAML}}
	f.Var(out, "output", "how to print, where -f does not say it")
	completeChoice(cmd, "output", out)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.Changed("group") && f.Changed("partitions") {
			return &failure{what: "-p and -g exclude each other", hint: "a group shares out the partitions by itself", code: ExitUsage}
		}
		if f.Changed("group") && r.spec.group == "" {
			return usage("-g: the group's name is empty")
		}
		if f.Changed("count") && r.count < 1 {
			return usage("-n %d: must be at least 1", r.count)
		}
		var err error
		r.spec.topics = args
		if partitions != "" {
			if r.spec.partitions, err = parsePartitions(partitions); err != nil {
				return usage("-p: %v", err)
			}
		}
		switch {
		case f.Changed("offset"):
			if r.spec.start, err = parseStart(place, a.Now()); err != nil {
				return usage("-o: %v", err)
			}
		case r.spec.toEnd:
			r.spec.start.kind = startFirst
		}
		r.placeGiven = f.Changed("offset")
		r.output = out.value
		if f.Changed("format") {
			r.output = outText
		} else if format = `%v\n`; r.output == outWide {
			format = `%t-%p@%o\t%T\t%k\t%v\n`
		}
		if r.format, err = parseFormat(format); err != nil {
			return usage("-f: %v", err)
		}
		return r.run(cmd.Context())
	}
	return cmd
}

const (
	// pollWait is how long one poll waits; it bounds how late the end of -e, an idle
	// member and a dead broker are noticed.
	pollWait = 250 * time.Millisecond
	// leaveTimeout bounds the last commit and the leaving of the group.
	leaveTimeout = 10 * time.Second
	// tailWait is how long a partition may bring nothing before -e asks the broker whether
	// anything readable is left before the end.
	tailWait = time.Second
)

// consumeRun is one run of consume.
type consumeRun struct {
	*app
	spec       consumeSpec
	placeGiven bool
	count      int64 // 0: no limit
	output     string
	format     *recordFormat

	c       *consumer
	out     *bufio.Writer
	buf     []byte
	printed int64

	// ends are the ends that -e stops at, and at the offsets known to be read, both of all
	// partitions of the topics; the group's share of others comes from its commits.
	ends, at map[model.TopicPartition]int64
	// ids are those of the topics at the start, "" where the broker knows none.
	ids map[string]string
	// nextLook is when suspects are looked up again, and looked the last assignment that
	// made all topics suspects.
	nextLook time.Time
	looked   int

	seen        int  // the last assignment that was looked at
	idle        bool // the last notice said IDLE
	nextIdle    time.Time
	lastRecord  time.Time
	unreachable bool // the note about a lost broker was given
}

func (r *consumeRun) run(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	r.out = bufio.NewWriterSize(r.Stdout, 256<<10)
	var shown progressCount
	progress := &progress{done: make(chan struct{})}
	if !r.StdoutTTY {
		progress = r.progress(shown.line)
	}
	err := r.loop(ctx, &shown)
	progress.stop()
	if err == nil || errors.Is(err, errInterrupted) {
		// What is in the buffer was not committed yet; see loop.
		if e := r.out.Flush(); e != nil {
			err = e
		} else {
			r.c.printed()
		}
	}
	bound, cancel := context.WithTimeout(r.hard, leaveTimeout)
	defer cancel()
	if e := r.c.leave(bound); e != nil && (err == nil || errors.Is(err, errInterrupted)) {
		err = e
	}
	return err
}

// prepare finds the topics, the places to begin and, for -e, the ends.
func (r *consumeRun) prepare(ctx context.Context) error {
	bound, cancel := r.within(ctx)
	defer cancel()
	admin, err := r.open(bound)
	if err != nil {
		return err
	}
	defer admin.close()
	spans, err := admin.spans(bound, r.spec)
	if err != nil {
		return err
	}
	topics, err := admin.topics(bound, r.spec.topics...)
	if err != nil {
		return err
	}
	r.ids = make(map[string]string, len(topics))
	for _, t := range topics {
		r.ids[t.name] = t.id
	}
	r.at, err = admin.resolve(bound, r.spec, spans, func(tp model.TopicPartition, want, got int64) {
		if r.spec.group == "" {
			side := "begins"
			if got < want {
				side = "ends"
			}
			r.note("note: %s %s at offset %d, reading from there", tp, side, got)
		}
	})
	if err != nil {
		return err
	}
	if r.spec.group != "" {
		if err := r.prepareGroup(bound, admin); err != nil {
			return err
		}
	}
	if r.spec.toEnd {
		r.ends = make(map[model.TopicPartition]int64, len(spans))
		for tp, sp := range spans {
			r.ends[tp] = sp.end
		}
	} else if r.StdoutTTY && r.StderrTTY && r.spec.start.kind == startDefault && r.spec.group == "" {
		r.note("waiting for new records, -o start reads from the beginning")
	}
	r.c, err = r.openConsumer(bound, r.spec, r.at)
	return err
}

// prepareGroup takes the group's committed offsets into account.
func (r *consumeRun) prepareGroup(ctx context.Context, admin *client) error {
	committed, err := admin.committed(ctx, r.spec.group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return err
	}
	known := 0
	for tp := range r.at {
		if o, ok := committed[tp]; ok {
			r.at[tp] = o
			known++
		}
	}
	switch {
	case r.placeGiven && known > 0:
		r.note("note: group %s has committed offsets in %d of %d partitions, and -o does not count there; 'kalda group seek' moves them", r.spec.group, known, len(r.at))
	case known == 0 && r.spec.start.kind == startDefault && r.StdoutTTY && r.StderrTTY:
		r.note("group %s has no committed offsets: waiting for new records, -o start reads from the beginning", r.spec.group)
	}
	return nil
}

// loop prints until the count, the end, a signal or an error. Records are flushed before
// they are marked as printed, so that a commit never covers what nobody has seen.
func (r *consumeRun) loop(ctx context.Context, shown *progressCount) error {
	r.lastRecord = r.Now()
	for {
		if r.spec.toEnd && r.reachedEnd() {
			return nil
		}
		f, err := r.c.poll(ctx, pollWait)
		if err != nil {
			f.release()
			return err
		}
		if r.spec.group != "" {
			r.noticeIdle(ctx, r.Now())
		}
		var printErr error
		f.each(func(rec *consumedRecord) bool {
			if r.count > 0 && r.printed == r.count {
				return false
			}
			if printErr = r.print(rec); printErr != nil {
				return false
			}
			r.printed++
			return true
		}, func(tp model.TopicPartition, offset int64) { r.at[tp] = max(r.at[tp], offset) })
		quiet := f.empty()
		if !quiet && printErr == nil {
			if printErr = r.out.Flush(); printErr == nil {
				r.c.printed()
			}
			shown.set(r.printed)
			r.lastRecord = r.Now()
			r.unreachable = false
		}
		f.release()
		if printErr != nil {
			return printErr
		}
		if r.count > 0 && r.printed == r.count {
			return nil
		}
		if err := r.dropDeleted(ctx); err != nil {
			return err
		}
		if quiet {
			if err := r.quiet(ctx); err != nil {
				return err
			}
			if f.passing { // the client asks again at once after an error that it hands out
				_ = pause(ctx, pollWait) // the next poll sees that ctx ended
			}
		}
	}
}

// print writes one record into the buffer.
func (r *consumeRun) print(rec *consumedRecord) error {
	switch r.output {
	case outJSON:
		line, err := json.Marshal(rec.toJSON())
		if err != nil {
			return err
		}
		r.buf = append(append(r.buf[:0], line...), '\n')
	case outYAML:
		if _, err := r.out.WriteString("---\n"); err != nil {
			return err
		}
		return writeYAML(r.out, rec.toJSON())
	default:
		r.buf = r.format.append(r.buf[:0], rec)
	}
	_, err := r.out.Write(r.buf)
	return err
}

// reachedEnd says whether everything before the ends has been read, by us or, in a group,
// by a member that committed it.
func (r *consumeRun) reachedEnd() bool {
	for tp, end := range r.ends {
		if r.at[tp] < end {
			return false
		}
	}
	return true
}

// quiet is what is done when a poll brought nothing.
func (r *consumeRun) quiet(ctx context.Context) error {
	now := r.Now()
	if addr, err := r.c.dials.last(); err != nil && !r.unreachable && now.Sub(r.lastRecord) > 5*time.Second {
		r.unreachable = true
		r.note("note: cannot reach the broker at %s: %s; trying on", addr, dialReason(err))
	}
	if !r.spec.toEnd {
		return nil
	}
	if r.spec.group != "" {
		if err := r.learnCommits(ctx); err != nil {
			return err
		}
	}
	if now.Sub(r.lastRecord) > tailWait {
		r.skipEmptyTails(ctx)
	}
	return nil
}

// learnCommits commits our share, so that the other members see it, and takes over theirs.
func (r *consumeRun) learnCommits(ctx context.Context) error {
	owned, _ := r.c.assignment()
	for tp, end := range r.ends {
		if owned[tp] && r.at[tp] < end {
			return nil // our own part is not done; no need to ask about the others
		}
	}
	bound, cancel := r.within(ctx)
	defer cancel()
	if err := r.c.commit(bound); err != nil {
		// A rebalance may have begun meanwhile; the next round commits again.
		if k := protocolError(err); k == nil || !(errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID)) {
			return err
		}
		return nil
	}
	committed, err := r.c.committed(bound, r.spec.group)
	if err != nil {
		return err
	}
	for tp := range r.ends {
		if o, ok := committed[tp]; ok && !owned[tp] {
			r.at[tp] = max(r.at[tp], o)
		}
	}
	return nil
}

// skipEmptyTails passes over the ends of partitions in which nothing readable is left, as
// compaction and aborted transactions leave them.
func (r *consumeRun) skipEmptyTails(ctx context.Context) {
	owned, _ := r.c.assignment()
	bound, cancel := r.within(ctx)
	defer cancel()
	for tp, end := range r.ends {
		if r.at[tp] >= end || (r.spec.group != "" && !owned[tp]) {
			continue
		}
		// An error leaves the partition for the next round.
		if next, err := r.c.tail(bound, tp, r.at[tp], end); err == nil {
			r.at[tp] = next
		}
	}
}

// noticeIdle says so when this member has nothing to do because the group has more members
// than partitions. A new member owns nothing for a moment in any case; so the group's
// size decides.
func (r *consumeRun) noticeIdle(ctx context.Context, now time.Time) {
	owned, changes := r.c.assignment()
	if changes == r.seen {
		return
	}
	if len(owned) > 0 {
		if r.idle {
			r.note("no longer idle: owner of %s", plural(int64(len(owned)), "partition"))
		}
		r.seen, r.idle = changes, false
		return
	}
	if now.Before(r.nextIdle) {
		return
	}
	r.nextIdle = now.Add(pollWait)
	bound, cancel := r.within(ctx)
	defer cancel()
	members, stable, err := r.c.groupSize(bound, r.spec.group)
	if err != nil || !stable {
		return // asked again after nextIdle
	}
	r.seen = changes
	if members > len(r.at) {
		r.idle = true
		r.note("IDLE: %s, %s; this member waits until another one leaves", plural(int64(members), "member"), plural(int64(len(r.at)), "partition"))
	}
}

// progressCount is the number that the progress line shows.
type progressCount struct{ n atomic.Int64 }

func (p *progressCount) set(n int64) { p.n.Store(n) }
func (p *progressCount) line() string {
	return fmt.Sprintf("%s read", plural(p.n.Load(), "record"))
}
