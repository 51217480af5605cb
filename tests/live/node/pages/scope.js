// The seed's second hook has no imports of its own: these are the names it expects in scope.
export { useEffect, useState } from "react";
export { io } from "socket.io-client";
