/*
 * What check is told, in a child that will be killed.
 */
#pragma once

/*
 * To be called first in a child that its parent may kill at any moment. All processes of a test tell
 * check what they do through one file; a kill that comes while one writes there leaves half a message,
 * and check then ends the whole program with "Bad message type". From here on the messages of this
 * process go nowhere: what fails in it is told by its end. Ends the process with 99 if there is no such
 * file, for then this call no longer does what it is for.
 */
void check_messages_leave(void);
