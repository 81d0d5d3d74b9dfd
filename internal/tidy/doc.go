// Package tidy keeps the house in order. It has no code for others: its tests hold
//
//   - the levels of the rooms: a package imports only rooms below its own;
//   - who may use which library: etcd only in ensemble, franz-go's client only in the
//     files of cli that talk to brokers, and nothing else that is not listed;
//   - the cores: no clock, no lock, no file and no socket;
//   - the prose: a package doc for each package, a comment for each exported name, no
//     notes of work left over;
//   - the form: gofmt, no init functions.
//
// A file is held to the rules of a core if it stands in the room of a protocol and is not
// listed there as its shell (see coreRooms), or if a line of it is the comment
//
//	//kalda:core
//
// The tests look at every Go file of the module, whatever its build tags, and find the
// rooms by themselves: a room that does not exist yet breaks nothing, but a new directory
// needs a level in the table of rooms.
package tidy
