"""What outlives the connections of MQTT clients: sessions, wills, retained messages, and the channels of wildcards."""
