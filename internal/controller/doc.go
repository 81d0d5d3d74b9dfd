// Package controller decides about the cluster: it creates, extends, configures and deletes topics,
// fences and admits brokers and elects the leaders of partitions. One broker at a time
// is elected to run it.
//
//	requests, watch events, timers
//	        |
//	        v
//	  Controller (shell: one goroutine, campaigns for the controller key)
//	        |  meta.State            ^ Txn: controller epoch + revision of every key
//	        v                        |
//	  Planner (core: state + request -> results + changes)
//
// The Planner is pure: no clock, no locks, no I/O; scripts in testdata drive it.
// Reconcile is level-triggered: it looks at the whole state and says what must be
// written next, so whatever a crashed controller left half done is finished by the
// next one, without a log of its own.
//
// Invariants:
//
//  1. Every write is a transaction that compares the CreateRevision of the controller
//     key with this controller's epoch and the ModRevision of every key that it changes.
//     A controller that was replaced therefore writes nothing.
//  2. The state that is planned on was loaded after the controller key was created, and
//     contains each own write before the next is planned.
//  3. A broker that is fenced, draining or of an older epoch is neither elected nor
//     added to an ISR: fencing is one write of brokers/state, and every change that gives a broker a role
//     compares that key.
//  4. A Change is atomic. What needs several is safe to leave off between any two.
//
// Registrar keeps the registration of one broker: its lease, and so the epoch under
// which it may lead.
package controller
