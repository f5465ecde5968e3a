"""Language models behind one interface: llama.cpp in process, and the response cache."""
